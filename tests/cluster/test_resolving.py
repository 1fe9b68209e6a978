"""Names whose lookup hangs or fails hold up no other, nor the loop's own lookups."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dragoman import rpc
from dragoman.cluster.dialing import DEAD, GOOD, NEW
from dragoman.cluster.directory import Directory
from dragoman.cluster.options import Options
from dragoman.cluster.resolving import THREADS_MAX, Resolver, is_literal
from dragoman.registry.registration import Registration
from dragoman.testing.services import submit
from tests.waiting import until


class Names:
    """Names that this machine's resolver knows: ``good*``, ``bad*`` (unknown), others hang."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.hanging = 0
        self.hanging_most = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if not isinstance(host, str) or not host.endswith(".test"):
            return self.real(host, port, *rest, **options)
        with self.lock:
            self.asked[host] += 1
        if host.startswith("good"):
            return self.real("127.0.0.1", port, *rest, **options)
        if host.startswith("two"):
            # The first of its addresses is nobody's.
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))
                for address in ("127.0.0.9", "127.0.0.1")
            ]
        if not host.startswith("bad"):
            with self.lock:
                self.hanging += 1
                self.hanging_most = max(self.hanging_most, self.hanging)
            self.over.wait(60)
            with self.lock:
                self.hanging -= 1
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    known = Names()
    monkeypatch.setattr(socket, "getaddrinfo", known)
    yield known
    known.over.set()


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    async with await rpc.serve({"echo": lambda body: body}, "127.0.0.1:0") as server:
        yield int(str(server.address).rpartition(":")[2])


def listed(host: str, port: int, interface: str) -> Registration:
    return Registration(interface=interface, host=host, port=port)


def test_names_that_hang_hold_up_no_other_name(names: Names) -> None:
    async def scenario() -> None:
        async with echo() as port:
            directory = Directory(asyncio.get_running_loop(), Options())
            hang = [listed(f"hang{n}.test", 1, f"h.H{n}") for n in range(400)]
            directory.update(hang)
            await until(lambda: names.hanging >= 4)
            goods = [listed(f"good{n}.test", port, "g.G") for n in range(3)]
            directory.update([*hang, *goods])
            # A call waits for them.
            ended: list[Any] = []
            submit(
                directory.find("g.G"), b"echo", b"x", ended.append, ended.append, timeout_ms=30_000
            )
            await until(lambda: ended == [b"x"], 40)
            # The loop's own lookups go on beside them.
            async with asyncio.timeout(20):
                found = await asyncio.get_running_loop().getaddrinfo("good.test", 80)
            assert found
            assert names.hanging_most <= sum(THREADS_MAX)
            directory.update([])
            names.over.set()

    # asyncio's own loop, whose lookups are socket.getaddrinfo on threads.
    asyncio.run(scenario())


def test_of_several_addresses_each_is_tried_and_a_name_is_asked_for_once(names: Names) -> None:
    async def scenario() -> None:
        async with echo() as port:
            directory = Directory(asyncio.get_running_loop(), Options())
            directory.update([listed("two.test", port, "t.T"), listed("bad.test", port, "t.T")])
            await until(lambda: directory.find("t.T").serving, 20)
            directory.update([])

    asyncio.run(scenario())


def test_lookups_are_shared_bounded_and_dropped(names: Names) -> None:
    async def scenario() -> None:
        resolver = Resolver(asyncio.get_running_loop())
        same = await asyncio.gather(*(resolver.lookup("good.test", NEW) for _ in range(50)))
        assert same == [["127.0.0.1"]] * 50
        assert names.asked["good.test"] == 1
        with pytest.raises(socket.gaierror):
            await resolver.lookup("bad.test", DEAD)
        waiting = [
            asyncio.ensure_future(resolver.lookup(f"hang{n}.test", DEAD)) for n in range(100)
        ]
        await until(lambda: names.hanging == THREADS_MAX[DEAD], 20)
        # Another kind has threads of its own.
        assert await resolver.lookup("good2.test", GOOD) == ["127.0.0.1"]
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        names.over.set()
        assert await resolver.lookup("good3.test", DEAD) == ["127.0.0.1"]
        # Those that nobody waited for any more were not looked up.
        assert sum(n for host, n in names.asked.items() if "hang" in host) <= THREADS_MAX[DEAD] + 1
        assert resolver._by_host == {}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("host", "literal"),
    [("127.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("h", False), ("1.2.3", False)],
)
def test_an_address_is_not_looked_up(host: str, literal: bool) -> None:
    assert is_literal(host) is literal
