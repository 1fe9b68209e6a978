"""Nacos over HTTP: its open API of version 1, which servers of Nacos 1 and 2 have.

Used by ``nacos.NacosRegistry``. Invariants: every exchange has a deadline; what goes wrong leaves
as RegistryError without user, password or token; after a failure the next server is asked.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import aiohttp
import msgspec

from dragoman.errors import RegistryError
from dragoman.reasons import reason
from dragoman.registry.bodies import TooLongError, read_body
from dragoman.wire.misfit import UNREADABLE, json_misfit

PAGE: Final = 500
# As many names are no cluster's, but a server's that never comes to an end.
NAMES_MAX: Final = 1_000_000
# Nacos's code for a heartbeat of an instance that it does not know.
UNKNOWN_INSTANCE: Final = 20404


class Instance(msgspec.Struct):
    """An instance of a service, as Nacos lists it."""

    ip: str
    port: int
    metadata: dict[str, str] = {}
    enabled: bool = True
    healthy: bool = True


class _Instances(msgspec.Struct):
    hosts: list[msgspec.Raw] = []


class Malformed(NamedTuple):
    """An entry of a list of instances that is none."""

    text: str
    reason: str


_decode_instance: Final = msgspec.json.Decoder(Instance).decode


def instance_of(raw: msgspec.Raw | bytes) -> Instance | Malformed:
    """An entry of a list of instances, decoded."""
    try:
        return _decode_instance(raw)
    except UNREADABLE:
        text = bytes(raw)
        why = str(json_misfit(text, Instance))
        return Malformed(text[:60].decode(errors="replace"), why)


class _Services(msgspec.Struct):
    count: int = 0
    doms: list[str] = []


class _Beat(msgspec.Struct):
    code: int = 10200


class _Token(msgspec.Struct):
    accessToken: str = ""
    tokenTtl: int = 18000


class NacosClient:
    """A client of one cluster; ``hosts`` are ``host:port``, ``path`` its context (``/nacos``)."""

    def __init__(
        self,
        hosts: list[str],
        *,
        path: str,
        namespace: str,
        group: str,
        user: str,
        password: str,
        timeout_s: float,
    ) -> None:
        self._hosts = list(hosts)
        self._path = path
        self._namespace = namespace
        self._group = group
        self._user = user
        self._password = password
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self._token_until_s = 0.0
        self.errors_total = 0
        self.last_error = f"Nacos at {','.join(self._hosts)} has not answered"

    async def instances(self, service: str) -> list[Instance | Malformed]:
        """The instances of a service, ill ones too; none for a service that there is not. An entry
        that is no instance stands for itself alone.
        """
        return [instance_of(raw) for raw in await self.raw_instances(service)]

    async def raw_instances(self, service: str) -> list[msgspec.Raw]:
        """``instances`` before they are decoded (``instance_of``): there may be thousands."""
        body = await self._ask("GET", "/v1/ns/instance/list", {"serviceName": service})
        listed: _Instances = self._decoded(body, _Instances)
        return listed.hosts

    async def services(self) -> list[str]:
        """The names of all services."""
        found: list[str] = []
        page = 1
        while True:
            asked = {"pageNo": str(page), "pageSize": str(PAGE)}
            part = self._decoded(await self._ask("GET", "/v1/ns/service/list", asked), _Services)
            found += part.doms
            # A server may have smaller pages than it was asked for.
            if not part.doms or len(found) >= part.count:
                return found
            if len(found) > NAMES_MAX:
                raise RegistryError(f"Nacos lists more than {NAMES_MAX} services")
            page += 1

    async def register(self, service: str, instance: Instance) -> None:
        """Make an ephemeral instance, which lives for as long as it sends heartbeats."""
        await self._ask("POST", "/v1/ns/instance", self._about(service, instance))

    async def deregister(self, service: str, instance: Instance) -> None:
        """Delete an instance, if it is there."""
        await self._ask("DELETE", "/v1/ns/instance", self._about(service, instance))

    async def beat(self, service: str, instance: Instance) -> bool:
        """A sign of life; False when Nacos does not know the instance."""
        beat = {
            "serviceName": f"{self._group}@@{service}",
            "ip": instance.ip,
            "port": instance.port,
            "cluster": "DEFAULT",
            "weight": 1.0,
            "metadata": instance.metadata,
            "scheduled": False,
        }
        asked = {
            **self._about(service, instance),
            "beat": msgspec.json.encode(beat).decode(),
        }
        body = await self._ask("PUT", "/v1/ns/instance/beat", asked)
        answer: _Beat = self._decoded(body, _Beat)
        return answer.code != UNKNOWN_INSTANCE

    def _about(self, service: str, instance: Instance) -> dict[str, str]:
        return {
            "serviceName": service,
            "ip": instance.ip,
            "port": str(instance.port),
            "clusterName": "DEFAULT",
            "weight": "1.0",
            "enabled": "true",
            "healthy": "true",
            "ephemeral": "true",
            "metadata": msgspec.json.encode(instance.metadata).decode(),
        }

    async def close(self) -> None:
        """Leave no connection open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, place: str, asked: dict[str, str]) -> bytes:
        """One exchange, tried at each server until one answers."""
        asked = {**asked, "groupName": self._group}
        if self._namespace:
            asked["namespaceId"] = self._namespace
        why = ""
        for _ in range(len(self._hosts)):
            try:
                async with asyncio.timeout(self._timeout_s):
                    if self._user:
                        asked["accessToken"] = await self._logged_in()
                    return await self._exchange(method, place, asked)
            except TimeoutError:
                why = f"{self._hosts[0]} did not answer within {self._timeout_s:g} s"
            except TooLongError as error:
                why = f"{self._hosts[0]}: {error}"
            except aiohttp.ClientConnectorError as error:
                why = f"{self._hosts[0]}: cannot connect: {reason(error.os_error)}"
            except aiohttp.ClientError:
                # Its text may hold the address asked for, with the token.
                why = f"{self._hosts[0]}: the connection broke, or what answers is no HTTP"
            except OSError as error:
                why = f"{self._hosts[0]}: {reason(error)}"
            except RegistryError as error:
                why = f"{self._hosts[0]}: {error}"
            self._hosts.append(self._hosts.pop(0))
        self.errors_total += 1
        self.last_error = f"Nacos: {why}"
        raise RegistryError(self.last_error)

    async def _exchange(self, method: str, place: str, asked: dict[str, str]) -> bytes:
        # Nacos reads parameters from the query, also of a POST.
        async with self._send(method, f"{place}?{urlencode(asked)}") as reply:
            body = await read_body(reply)
            if reply.status == 403:
                self._token = ""
                raise RegistryError("access is denied: user and password, or the token, are wrong")
            if reply.status != 200:
                text = body[:200].decode("utf-8", "replace")
                raise RegistryError(f"status {reply.status}: {text}")
            return body

    def _send(
        self, method: str, place: str, form: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        url = f"http://{self._hosts[0]}{self._path}{place}"
        # Where else a server points to is nobody to give the password or the token to.
        return self._session.request(method, url, data=form, allow_redirects=False)

    async def _logged_in(self) -> str:
        now_s = asyncio.get_running_loop().time()
        if not self._token or now_s >= self._token_until_s:
            form = {"username": self._user, "password": self._password}
            async with self._send("POST", "/v1/auth/login", form) as reply:
                if reply.status != 200:
                    raise RegistryError(f"the login was refused with status {reply.status}")
                token = self._decoded(await read_body(reply), _Token)
            self._token = token.accessToken
            self._token_until_s = now_s + token.tokenTtl * 0.9
        return self._token

    def _decoded(self, body: bytes, kind: type[Any]) -> Any:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise RegistryError(f"not the answer of a Nacos server: {body[:60]!r}") from None
