"""Both agents as processes, while etcd and their workers come and go: no request fails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from dragoman.harness.etcd import EtcdServer, free_ports
from dragoman.registry import open_registry
from tests.load_factor import load_factor
from tests.waiting import until

INTERFACE = "com.alibaba.dubbo.performance.demo.provider.IHelloService"
ROOT = Path(__file__).resolve().parents[2]
FORM = {
    "interface": INTERFACE,
    "method": "hash",
    "parameterTypesString": "Ljava/lang/String;",
    "parameter": "hello",
}


class Chain:
    """etcd, one provider with its agent, and a consumer's agent."""

    def __init__(self, directory: Path) -> None:
        self.etcd = EtcdServer(directory)
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        ports = free_ports(5)
        self.provider_port, self.agent_port, self.port, self.provider_admin, self.admin = ports

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / "agents.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dragoman", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            )
        self.processes.append(process)
        return process

    async def start(self, *, workers: int = 1) -> None:
        await self.etcd.start()
        self.run("demo", "provider", "--port", str(self.provider_port), "--delay-ms", "1")
        common = ["--registry", self.etcd.registry_url, "--admin"]
        self.provider_agent = self.run(
            *("agent", "provider", "--listen", f"127.0.0.1:{self.agent_port}"),
            *("--provider", f"127.0.0.1:{self.provider_port}", "--interface", INTERFACE),
            *("--lease-ttl-s", "2", *common, f"127.0.0.1:{self.provider_admin}"),
        )
        self.consumer_agent = self.run(
            *("agent", "consumer", "--listen", f"127.0.0.1:{self.port}"),
            *("--workers", str(workers), *common, f"127.0.0.1:{self.admin}"),
        )
        await until(self.is_serving, 20)

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(12)
            process.kill()
            process.wait()
        self.etcd.kill()

    async def is_serving(self) -> bool:
        try:
            return (await self.request())[0] == 200
        except (OSError, aiohttp.ClientError):
            return False

    async def request(self) -> tuple[int, str]:
        """One request on a connection of its own."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self.port}/", data=FORM) as reply,
        ):
            return reply.status, await reply.text()

    async def workers(self) -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.admin}/status") as reply,
        ):
            found: list[dict[str, Any]] = (await reply.json())["workers"]
            return found


class Load:
    """Requests one after another, each on a connection of its own, until stopped."""

    def __init__(self, chain: Chain) -> None:
        self.answers: dict[tuple[int, str], int] = {}
        self._chain = chain
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                answer = await self._chain.request()
            except (OSError, aiohttp.ClientError) as error:
                answer = (0, repr(error))
            self.answers[answer] = self.answers.get(answer, 0) + 1

    async def stop(self) -> int:
        """All answers were right; how many."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert list(self.answers) == [(200, "99162322")]
        return sum(self.answers.values())


@asynccontextmanager
async def running(directory: Path, *, workers: int = 1) -> AsyncIterator[Chain]:
    chain = Chain(directory)
    try:
        await chain.start(workers=workers)
        yield chain
    finally:
        chain.stop()


def test_no_request_fails_while_etcd_is_killed_wiped_and_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as chain:
            load = Load(chain)
            chain.etcd.kill()
            await asyncio.sleep(0.5)
            chain.etcd.wipe()
            await asyncio.sleep(0.3)
            await chain.etcd.start()
            answered_s = time.monotonic()
            registry = open_registry(chain.etcd.registry_url)

            async def stands() -> bool:
                return INTERFACE in await registry.services()

            await until(stands, 1.5)
            assert time.monotonic() - answered_s < 1.5 * load_factor()
            # Longer than the grace of what vanished: had nobody registered, it would be gone.
            await asyncio.sleep(3.3)
            assert await load.stop() > 100
            await registry.close()

    uvloop.run(scenario())


def test_a_consumer_worker_killed_while_etcd_is_away_costs_no_later_request(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=2) as chain:

            async def both_ready() -> bool:
                workers = await chain.workers()
                return [each["not_ready"] for each in workers] == [None, None]

            await until(both_ready, 10)
            before = [each["pid"] for each in await chain.workers()]
            chain.etcd.kill()
            os.kill(before[0], signal.SIGKILL)

            async def replaced() -> bool:
                (first, _) = await chain.workers()
                return first["pid"] not in (None, before[0]) and first["not_ready"] is not None

            await until(replaced, 5)
            load = Load(chain)
            # The new worker has no list and takes no connection; its fellow serves on.
            await asyncio.sleep(1.5)
            assert [each["not_ready"] is None for each in await chain.workers()] == [False, True]
            await chain.etcd.start()
            await until(both_ready, 3)
            await asyncio.sleep(0.3)
            assert await load.stop() > 100

    uvloop.run(scenario())


def test_sigterm_unregisters_and_kill_9_is_forgotten_with_the_lease(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as chain:
            registry = open_registry(chain.etcd.registry_url)

            async def registered() -> bool:
                return bool(await registry.services())

            async def forgotten() -> bool:
                return not await registry.services()

            chain.provider_agent.terminate()
            await until(forgotten, 1)
            assert await asyncio.to_thread(chain.provider_agent.wait, 10) == 0
            again = chain.run(*[str(each) for each in chain.provider_agent.args[3:]])  # type: ignore[index, union-attr]
            await until(registered, 5)
            again.kill()
            await until(forgotten, 2 + 2)
            await registry.close()

    uvloop.run(scenario())
