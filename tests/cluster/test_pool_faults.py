"""What becomes of a pool's calls when servers and registries go, hang and come back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import cluster
from dragoman.cluster.directory import Directory
from dragoman.cluster.options import Options
from dragoman.errors import (
    DragomanError,
    LinkLostError,
    RegistryError,
    UnavailableError,
)
from dragoman.harness.etcd import EtcdServer
from dragoman.registry import open_registry
from dragoman.registry.memory import MemoryRegistry
from tests.cluster.pools import Node, assert_quiet, kinds, nodes, run

ROOT = Path(__file__).parent.parent.parent


class Process:
    """A server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.pool_server", *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    @property
    def port(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Three server processes that answer after 20 ms."""
    made = [Process("20") for _ in range(3)]
    yield made
    for process in made:
        process.kill()


def test_killing_one_of_three_fails_only_what_was_in_flight_there(
    processes: list[Process],
) -> None:
    async def work() -> None:
        endpoints = [f"127.0.0.1:{process.port}" for process in processes]
        async with await cluster.connect("test", endpoints=endpoints) as pool:
            ends: list[Any] = []
            stop = False

            async def caller() -> None:
                while not stop:
                    try:
                        ends.append(await pool.call("whoami", b"x", timeout_ms=3000))
                    except DragomanError as error:
                        ends.append(error)

            callers = [asyncio.create_task(caller()) for _ in range(60)]
            await asyncio.sleep(0.5)
            in_flight = {e.address: e.calls for e in pool.statistics().endpoints}
            assert max(in_flight.values()) > 5
            processes[0].process.kill()
            await asyncio.sleep(0.7)
            stop = True
            await asyncio.gather(*callers)
            failed = [end for end in ends if not isinstance(end, bytes)]
            assert {type(end) for end in failed} == {LinkLostError}
            assert {end.endpoint for end in failed} == {endpoints[0]}
            # Those in flight when it died: about a third of 60, and none after that.
            assert len(failed) <= 60 // 2
            assert not any(end.retry_safe for end in failed)
            survivors = {end.split()[0] for end in ends[-60:]}
            assert len(survivors) == 2
            assert_quiet(pool)

    run(work)


def test_a_rolling_restart_with_drain_fails_no_call() -> None:
    async def work() -> None:
        url = "memory://rolling"
        made: dict[str, Any] = {}

        async def start(letter: str) -> None:
            node = Node(letter, delay_s=0.01, limit=40)
            serving = await cluster.serve(
                {"work": node.work}, "127.0.0.1:0", name="svc", registry=url, limit=40
            )
            made[letter] = serving

        for letter in "abc":
            await start(letter)
        async with await cluster.connect("svc", registry=url, servers_min=3) as pool:
            ends: list[Any] = []
            ordered: dict[int, list[int]] = defaultdict(list)
            stop = False

            async def caller(number: int) -> None:
                sent = 0
                while not stop:
                    key = f"key {number}" if number % 2 else None
                    try:
                        ends.append(await pool.call("work", b"%d" % sent, order_key=key))
                        ordered[number].append(sent)
                    except DragomanError as error:
                        ends.append(error)
                    sent += 1

            callers = [asyncio.create_task(caller(number)) for number in range(60)]
            for _ in range(2):
                for letter in "abc":
                    await asyncio.sleep(0.05)
                    await made[letter].close()
                    await start(letter)
            await asyncio.sleep(0.1)
            stop = True
            await asyncio.gather(*callers)
            assert kinds(ends) == {"ok": len(ends)} and len(ends) > 500
            assert all(sent == sorted(sent) for sent in ordered.values())
            assert_quiet(pool)
        for serving in made.values():
            await serving.close()
        MemoryRegistry.forget("rolling")

    run(work)


def test_a_stopped_server_is_set_aside_though_slow_handlers_are_not(
    processes: list[Process],
) -> None:
    async def work() -> None:
        endpoints = [f"127.0.0.1:{process.port}" for process in processes]
        async with nodes("s", delay_s=1.5) as slow:
            endpoints.append(slow["s"].address)
            async with await cluster.connect("test", endpoints=endpoints[2:]) as pool:
                # Nothing is wrong with a handler that takes its time.
                pool.call("whoami", b"")
                slow_calls = [pool.call("work", b"") for _ in range(4)]
                await asyncio.sleep(1)
                assert not any(e.set_aside for e in pool.statistics().endpoints)
                for call in slow_calls:
                    call.cancel()
        async with await cluster.connect("test", endpoints=endpoints[:2]) as pool:
            await pool.call_many("whoami", [b""] * 50)
            processes[0].process.send_signal(signal.SIGSTOP)
            hung = [pool.call("whoami", b"") for _ in range(10)]
            await asyncio.sleep(0.9)
            (stopped, well) = pool.statistics().endpoints
            assert (stopped.set_aside, well.set_aside) == (True, False)
            ends = await asyncio.gather(
                *(pool.call("whoami", b"", timeout_ms=200) for _ in range(50)),
                return_exceptions=True,
            )
            # At most a probe went to the one that is stopped.
            assert kinds(ends)["ok"] >= 48
            processes[0].process.send_signal(signal.SIGCONT)
            assert kinds(await asyncio.gather(*hung)) == {"ok": 10}

    run(work)


def test_pools_follow_the_registry_and_outlast_its_outage(tmp_path: Path) -> None:
    async def work() -> None:
        etcd = EtcdServer(tmp_path)
        await etcd.start()
        url = f"{etcd.registry_url}/pools"
        try:
            with pytest.raises(UnavailableError):
                await cluster.connect("svc", registry=url, connect_timeout_ms=300)
            made = []
            for letter, weight in (("a", 1), ("b", 3)):
                node = Node(letter, delay_s=0.02)
                made.append(
                    await cluster.serve(
                        {"work": node.work},
                        "127.0.0.1:0",
                        name="svc",
                        registry=url,
                        weight=weight,
                        version="2",
                        lease_ttl_s=2,
                    )
                )
            assert all(serving.registered for serving in made)
            pool = await cluster.connect("svc", registry=url, version="2", servers_min=2)
            assert sorted(e.weight for e in pool.statistics().endpoints) == [1, 3]
            replies = await asyncio.gather(*(pool.call("work") for _ in range(200)))
            assert sum(r[:1] == b"b" for r in replies) == pytest.approx(150, rel=0.1)
            # Another version's servers are not this one's.
            with pytest.raises(UnavailableError):
                await cluster.connect("svc", registry=url, version="1", connect_timeout_ms=200)
            # The agents leave them alone.
            directory = Directory(asyncio.get_running_loop(), Options())
            registry = open_registry(url)
            directory.update([e for all_of in (await registry.services()).values() for e in all_of])
            assert directory.services == {}
            await registry.close()
            etcd.kill()
            ends = []
            for _ in range(20):
                ends += await asyncio.gather(
                    *(pool.call("work") for _ in range(20)), return_exceptions=True
                )
                await asyncio.sleep(0.01)
            assert kinds(ends) == {"ok": 400}
            with pytest.raises(RegistryError, match="silent"):
                await cluster.connect("svc", registry=url, connect_timeout_ms=100)
            await etcd.start()
            async with asyncio.timeout(8):
                while not all(serving.registered for serving in made):
                    await asyncio.sleep(0.02)
            await made[0].close()
            async with asyncio.timeout(5):
                while len(pool.statistics().endpoints) == 2:
                    await asyncio.sleep(0.01)
            assert {
                r[:1] for r in await asyncio.gather(*(pool.call("work") for _ in range(20)))
            } == {b"b"}
            await pool.close()
            await made[1].close()
        finally:
            etcd.kill()

    run(work, timeout_s=25)
