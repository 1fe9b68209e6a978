"""A test double of a Nacos server: the part of its open API of version 1 that a registry needs.

No real Nacos can be had where these tests run. The double was written from the documentation of
Nacos 2 and the behaviour of its Java client; what it is true to: names and groups of services,
ephemeral instances that live by heartbeats and turn ill before they vanish, code 20404 for an
unknown one, pages of service names, the login. What it is not: a cluster, push, or durable.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

from aiohttp import web


class FakeNacos:
    """One server on a thread of its own; ``stop`` and ``start`` keep the port, not the data."""

    def __init__(self, *, user: str = "", password: str = "") -> None:
        self.port = 0
        self._user = user
        self._password = password
        self._services: dict[tuple[str, str, str], dict[tuple[str, int], dict[str, Any]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self.asked = 0
        self.names_asked = 0
        self.lists_asked = 0
        self.registered = 0
        # Set by tests: the longest page of names, ports that are not registered, and a gate that
        # every registration waits at after ``arrived`` has been set.
        self.page_max = 1000
        self.refused_ports: set[int] = set()
        self.gate: threading.Event | None = None
        # By the name of a service: entries of its list that no Java provider would make.
        self.hostile: dict[str, list[object]] = {}
        self.arrived = threading.Event()

    @property
    def url(self) -> str:
        """Its registry URL."""
        return f"nacos://127.0.0.1:{self.port}"

    def start(self) -> FakeNacos:
        """Serve, with nothing registered."""
        self._services.clear()
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def stop(self) -> None:
        """End it; connections are reset."""
        if self._thread is not None and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(5.0)
            self._thread = None

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        application = web.Application()
        application.router.add_post("/nacos/v1/auth/login", self._login)
        application.router.add_post("/nacos/v1/ns/instance", self._register)
        application.router.add_delete("/nacos/v1/ns/instance", self._deregister)
        application.router.add_put("/nacos/v1/ns/instance/beat", self._beat)
        application.router.add_get("/nacos/v1/ns/instance/list", self._list)
        application.router.add_get("/nacos/v1/ns/service/list", self._names)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _asked(self, request: web.Request) -> dict[str, str]:
        self.asked += 1
        said = {**request.query}
        if request.can_read_body:
            said |= {k: str(v) for k, v in (await request.post()).items()}
        if self._user and said.get("accessToken") != "token-of-the-double":
            raise web.HTTPForbidden(text="user not found!")
        return said

    async def _login(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (form.get("username"), form.get("password")) != (self._user, self._password):
            raise web.HTTPForbidden(text="unknown user!")
        return web.json_response({"accessToken": "token-of-the-double", "tokenTtl": 18000})

    def _service(self, said: dict[str, str]) -> dict[tuple[str, int], dict[str, Any]]:
        name = said["serviceName"]
        group = said.get("groupName", "DEFAULT_GROUP")
        if "@@" in name:
            group, _, name = name.partition("@@")
        return self._services.setdefault((said.get("namespaceId", "public"), group, name), {})

    async def _register(self, request: web.Request) -> web.Response:
        said = await self._asked(request)
        place = said["ip"], int(said["port"])
        if place[1] in self.refused_ports:
            raise web.HTTPInternalServerError(text="no such luck")
        self.arrived.set()
        while self.gate is not None and not self.gate.is_set():
            await asyncio.sleep(0.005)
        self._service(said)[place] = {
            "ip": place[0],
            "port": place[1],
            "weight": float(said.get("weight", 1.0)),
            "enabled": said.get("enabled", "true") == "true",
            "ephemeral": said.get("ephemeral", "true") == "true",
            "metadata": json.loads(said.get("metadata") or "{}"),
            "beat_s": time.monotonic(),
        }
        self.registered += 1
        return web.Response(text="ok")

    async def _deregister(self, request: web.Request) -> web.Response:
        said = await self._asked(request)
        self._service(said).pop((said["ip"], int(said["port"])), None)
        return web.Response(text="ok")

    async def _beat(self, request: web.Request) -> web.Response:
        said = await self._asked(request)
        beat = json.loads(said.get("beat") or "{}")
        ip, port = said.get("ip") or beat["ip"], int(said.get("port") or beat["port"])
        instance = self._service(said).get((ip, port))
        if instance is None:
            return web.json_response({"code": 20404, "clientBeatInterval": 5000})
        instance["beat_s"] = time.monotonic()
        return web.json_response(
            {"code": 10200, "clientBeatInterval": 5000, "lightBeatEnabled": True}
        )

    async def _list(self, request: web.Request) -> web.Response:
        said = await self._asked(request)
        self.lists_asked += 1
        service = self._service(said)
        hosts: list[object] = list(self.hostile.get(said["serviceName"], ()))
        for place, one in list(service.items()):
            silent_ms = (time.monotonic() - one["beat_s"]) * 1000
            given = one["metadata"]
            if one["ephemeral"]:
                if silent_ms > float(given.get("preserved.ip.delete.timeout", 30000)):
                    del service[place]
                    continue
                one["healthy"] = silent_ms < float(given.get("preserved.heart.beat.timeout", 15000))
            hosts.append(
                {k: v for k, v in one.items() if k != "beat_s"} | {"clusterName": "DEFAULT"}
            )
        name = f"{said.get('groupName', 'DEFAULT_GROUP')}@@{said['serviceName']}"
        return web.json_response({"name": name, "hosts": hosts, "cacheMillis": 10000})

    async def _names(self, request: web.Request) -> web.Response:
        said = await self._asked(request)
        place = said.get("namespaceId", "public"), said.get("groupName", "DEFAULT_GROUP")
        names = sorted(name for *at, name in self._services if tuple(at) == place)
        self.names_asked += 1
        size, page = min(int(said["pageSize"]), self.page_max), int(said["pageNo"])
        doms = names[(page - 1) * size : page * size]
        return web.json_response({"count": len(names), "doms": doms})
