"""Pools over real sockets: who gets a call, who waits, and what becomes of it when servers go."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.pace import pace

from dragoman import cluster, rpc
from dragoman.balance.policies import POLICIES
from dragoman.cluster import Pool
from dragoman.cluster.directory import Directory
from dragoman.cluster.options import Options
from dragoman.errors import (
    BatchError,
    DeadlineError,
    DragomanError,
    LimitError,
    LinkLost,
    NotFoundError,
    OverloadError,
    RegistryError,
    RemoteError,
    UnavailableError,
    UsageError,
)
from dragoman.race.etcd import EtcdServer
from dragoman.registry import open_registry
from dragoman.registry.memory import MemoryRegistry

ROOT = Path(__file__).parent.parent.parent


def run(work: Callable[[], Coroutine[Any, Any, None]], timeout_s: float = 20) -> None:
    """Run a test on uvloop; what nobody looked at (a task's error) fails it."""
    unseen: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
        async with asyncio.timeout(timeout_s):
            await work()
        gc.collect()

    uvloop.run(main())
    assert unseen == []


class Node:
    """A server of a test: counts, and answers with its letter and the body after ``delay_s``."""

    def __init__(self, letter: str, delay_s: float = 0.0, **options: Any) -> None:
        self.letter = letter.encode()
        self.delay_s = delay_s
        self.options = options
        self.taken: list[bytes] = []
        self.ended: list[bytes] = []
        self.now = 0
        self.most = 0
        self.server: Any = None

    async def work(self, body: bytes) -> bytes:
        self.taken.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            return self.letter + b":" + body
        finally:
            self.now -= 1
            self.ended.append(body)

    async def refuse(self, body: bytes) -> bytes:
        self.taken.append(body)
        raise OverloadError("not here")

    async def fail(self, body: bytes) -> bytes:
        self.taken.append(body)
        raise ValueError(body.decode())

    async def start(self, port: int = 0) -> Node:
        methods = {"work": self.work, "fail": self.fail, "refuse": self.refuse}
        self.server = await rpc.serve(methods, f"127.0.0.1:{port}", **self.options)
        return self

    @property
    def address(self) -> str:
        return str(self.server.address)


@asynccontextmanager
async def nodes(letters: str, **options: Any) -> AsyncIterator[dict[str, Node]]:
    """A node for each letter."""
    made = {letter: await Node(letter, **options).start() for letter in letters}
    try:
        yield made
    finally:
        for node in made.values():
            await node.server.close(drain_ms=0)


async def pool_of(made: dict[str, Node], **options: Any) -> Pool:
    return await cluster.connect(
        "test", endpoints=[node.address for node in made.values()], **options
    )


def assert_quiet(pool: Pool) -> None:
    """Nothing is counted as outstanding any more."""
    statistics = pool.statistics()
    assert (statistics.calls, statistics.bytes) == (0, 0)
    assert (statistics.waiting, statistics.waiting_bytes) == (0, 0)
    assert [endpoint.calls for endpoint in statistics.endpoints] == [0] * len(statistics.endpoints)


def kinds(ends: list[Any]) -> Counter[str]:
    return Counter("ok" if isinstance(end, bytes) else type(end).__name__ for end in ends)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_style_of_calling_works_under_every_policy(policy: str) -> None:
    async def work() -> None:
        async with nodes("abc") as made, await pool_of(made, policy=policy) as pool:
            assert (await pool.call("work", b"one"))[1:] == b":one"
            many = await pool.call_many("work", [b"%d" % n for n in range(3000)])
            assert [reply[2:] for reply in many] == [b"%d" % n for n in range(3000)]
            assert len({reply[:1] for reply in many}) == 3
            assert await pool.call_many("work", []) == []
            ends: list[Any] = []
            for n in range(30):
                pool.call_soon("work", b"%d" % n, lambda *end: ends.append(end))
            mapped = [r async for r in pool.map("work", [b"%d" % n for n in range(200)])]
            assert [reply[2:] for reply in mapped] == [b"%d" % n for n in range(200)]
            assert len(ends) == 30 and all(error is None for _, error in ends)
            before = sum(len(node.taken) for node in made.values())
            for n in range(30):
                pool.notify("work", b"%d" % n)
            while sum(len(node.taken) for node in made.values()) < before + 30:
                await asyncio.sleep(0.001)
            assert_quiet(pool)
            statistics = pool.statistics()
            assert statistics.replies == 1 + 3000 + 30 + 200
            assert statistics.requests == statistics.replies + 30
            with pytest.raises(AttributeError):
                statistics.replies = 0  # type: ignore[misc]

    run(work)


def test_weights_share_the_calls() -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=0.05) as made:
            weights = {made["a"].address: 1, made["b"].address: 3}
            async with await cluster.connect("test", endpoints=weights) as pool:
                await asyncio.gather(*(pool.call("work", b"") for _ in range(400)))
                assert len(made["b"].taken) == pytest.approx(300, rel=0.1)

    run(work)


def test_a_slow_server_gets_what_it_grants_and_the_others_take_the_rest() -> None:
    async def work() -> None:
        slow = await Node("s", delay_s=0.3, limit=10).start()
        async with nodes("ab", delay_s=0.001, limit=50) as made:
            made["s"] = slow
            async with await pool_of(made) as pool:
                loop = asyncio.get_running_loop()
                started_s = loop.time()
                replies = [r async for r in pool.map("work", [b""] * 3000, in_flight=200)]
                assert len(replies) == 3000
                assert slow.most <= 10
                assert len(slow.taken) <= 10 * ((loop.time() - started_s) / 0.3 + 2)
                assert_quiet(pool)
            await slow.server.close(drain_ms=0)

    run(work)


def test_a_greedy_caller_leaves_the_others_their_share() -> None:
    async def work() -> None:
        async with (
            nodes("ab", delay_s=0.005, limit=8) as made,
            await pool_of(made) as greedy,
            await pool_of(made) as modest,
        ):
            flood = [greedy.call("work", b"greedy") for _ in range(3000)]
            await asyncio.sleep(0.05)
            loop = asyncio.get_running_loop()
            took = []
            for _ in range(20):
                started_s = loop.time()
                await modest.call("work", b"modest")
                took.append(loop.time() - started_s)
            # Behind all the others it would be 3000 / 16 * 5 ms: nearly a second.
            assert sorted(took)[10] < 0.1 * pace()
            assert not all(call.done() for call in flood)
            assert all(node.most <= 8 for node in made.values())
            for call in flood:
                call.cancel()

    run(work)


def test_a_batch_fails_by_index_and_refuses_what_cannot_be_sent() -> None:
    async def work() -> None:
        async with nodes("ab", body_bytes_max=1000) as made, await pool_of(made) as pool:
            with pytest.raises(BatchError) as failed:
                await pool.call_many("work", [b"1", bytes(1001), b"3"])
            assert list(failed.value.errors) == [1]
            assert isinstance(failed.value.errors[1], LimitError)
            assert [reply and reply[2:] for reply in failed.value.replies] == [b"1", None, b"3"]
            with pytest.raises(RemoteError, match="ValueError: why") as remote:
                await pool.call("fail", b"why")
            assert not remote.value.retry_safe
            assert remote.value.endpoint in {node.address for node in made.values()}
            with pytest.raises(NotFoundError):
                await pool.call("nothing")
            for wrong in (
                lambda: pool.call(""),
                lambda: pool.call("work", "text"),  # type: ignore[arg-type]
                lambda: pool.call("work", timeout_ms=0),
                lambda: pool.call("work", order_key=""),
                lambda: pool.call_many("work", [b"", 1]),  # type: ignore[list-item]
                lambda: pool.map("work", [], in_flight=0),
            ):
                with pytest.raises(UsageError):
                    wrong()
            assert_quiet(pool)

    run(work)


def test_refusals_are_tried_elsewhere_and_failures_never() -> None:
    async def work() -> None:
        async with nodes("ab") as made, await pool_of(made, policy="round-robin") as pool:
            made["b"].refuse = made["b"].work  # type: ignore[method-assign]
            await made["b"].server.close()
            await made["b"].start(made["b"].server.address.port)
            while pool.ready()[0] < 2:
                await asyncio.sleep(0.01)
            ends = await asyncio.gather(*(pool.call("refuse", b"") for _ in range(10)))
            assert {end[:1] for end in ends} == {b"b"}
            assert pool.statistics().retried > 0
            taken = sum(len(node.taken) for node in made.values())
            with pytest.raises(RemoteError):
                await pool.call("fail", b"once")
            assert sum(len(node.taken) for node in made.values()) == taken + 1

    run(work)


@pytest.mark.parametrize("style", ["call", "call_many", "ordered"])
def test_deadlines_and_cancellation_reach_the_server_and_leave_nothing_behind(style: str) -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=10, limit=3) as made, await pool_of(made) as pool:
            loop = asyncio.get_running_loop()

            def start(timeout_ms: int | None) -> list[asyncio.Future[Any]]:
                if style == "call_many":
                    return [pool.call_many("work", [b""] * 100, timeout_ms=timeout_ms)]
                key = "key" if style == "ordered" else None
                return [pool.call("work", timeout_ms=timeout_ms, order_key=key) for _ in range(100)]

            started_s = loop.time()
            ends = await asyncio.gather(*start(100), return_exceptions=True)
            assert loop.time() - started_s < 0.5
            for end in ends:
                if style == "call_many":
                    assert isinstance(end, BatchError) and len(end.errors) == 100
                else:
                    assert isinstance(end, DeadlineError)
            if style == "call":
                # Those that never left say so: all but six, and a few that left when the servers
                # gave up on these.
                assert 80 <= sum(end.retry_safe for end in ends) <= 94
            calls = start(None)
            await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()
            await asyncio.sleep(0.2)
            assert_quiet(pool)
            assert all(node.now == 0 for node in made.values())
            made["a"].delay_s = made["b"].delay_s = 0
            assert (await pool.call("work", b"x", timeout_ms=1000))[1:] == b":x"

    run(work)


def test_without_room_calls_fail_at_once_or_wait_within_bounds() -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=0.1, limit=5) as made:
            async with await pool_of(made, on_full="fail") as pool:
                calls = [pool.call("work", b"") for _ in range(50)]
                assert sum(call.done() for call in calls) == 40
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert kinds(ends) == {"ok": 10, "OverloadError": 40}
                assert all(end.retry_safe for end in ends if isinstance(end, DragomanError))
                # A batch goes out in portions whatever on_full says.
                assert len(await pool.call_many("work", [b""] * 25)) == 25
                held = pool.call_many("work", [b""] * 10)
                with pytest.raises(OverloadError):
                    await pool.call_many("work", [b""] * 10)
                with pytest.raises(OverloadError):
                    pool.notify("work")
                await held
                assert_quiet(pool)
            async with await pool_of(made, waiting_max=20, calls_max=8) as pool:
                calls = [pool.call("work", b"") for _ in range(50)]
                assert pool.statistics().calls == 8
                assert pool.statistics().waiting == 20
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert kinds(ends) == {"ok": 28, "OverloadError": 22}
            async with await pool_of(made, bytes_max=1000, waiting_bytes_max=1000) as pool:
                calls = [pool.call("work", bytes(400)) for _ in range(10)]
                assert (pool.statistics().bytes, pool.statistics().waiting_bytes) == (800, 800)
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert kinds(ends) == {"ok": 4, "OverloadError": 6}
                assert_quiet(pool)

    run(work)


def test_an_empty_pool_fails_calls_at_once_or_lets_them_wait_for_a_server() -> None:
    async def work() -> None:
        with pytest.raises(UnavailableError, match="none is listed"):
            await cluster.connect("none", registry="memory://empty", connect_timeout_ms=50)
        options: dict[str, Any] = {"registry": "memory://empty", "servers_min": 0}
        async with await cluster.connect("none", on_full="fail", **options) as pool:
            call = pool.call("work", b"")
            assert call.done()
            with pytest.raises(UnavailableError):
                await call
            with pytest.raises(UnavailableError):
                await pool.call_many("work", [b"", b""])
            with pytest.raises(UnavailableError):
                pool.notify("work")
            with pytest.raises(UnavailableError):
                await pool.call("work", order_key="key")
        async with await cluster.connect("none", **options) as pool:
            with pytest.raises(DeadlineError):
                await pool.call("work", timeout_ms=30)
            calls = [
                pool.call("work", b"1"),
                pool.call("work", b"2", order_key="key"),
                pool.call_many("work", [b"3"]),
            ]
            pool.notify("work", b"4")
            node = Node("n")
            serving = await cluster.serve(
                node.work, "127.0.0.1:0", name="none", registry="memory://empty"
            )
            assert await asyncio.gather(*calls) == [b"n:1", b"n:2", [b"n:3"]]
            await serving.close()
            # And when the last one has gone they wait again.
            last = pool.call("work", b"5")
            await asyncio.sleep(0.02)
            assert not last.done()
            await pool.close(drain_ms=0)
            with pytest.raises(UnavailableError, match="closed"):
                await last
            with pytest.raises(UnavailableError, match="closed"):
                await pool.call("work")
        MemoryRegistry.forget("empty")

    run(work)


def test_closing_a_pool_drains_it_or_ends_what_is_under_way() -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=0.1, limit=2) as made:
            pool = await pool_of(made)
            calls = [pool.call("work", b"") for _ in range(8)]
            await pool.close()
            assert kinds([call.result() for call in calls]) == {"ok": 8}
            pool = await pool_of(made)
            calls = [pool.call("work", b"") for _ in range(8)]
            await asyncio.sleep(0.05)
            await pool.close(drain_ms=0)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert kinds(ends) == {"LinkLost": 4, "UnavailableError": 4}
            assert_quiet(pool)

    run(work)


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
            assert {type(end) for end in failed} == {LinkLost}
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


@pytest.mark.parametrize("seed", range(3))
def test_calls_of_a_key_run_in_order_on_one_server_while_it_lives(seed: int) -> None:
    async def work() -> None:
        source = random.Random(seed)
        seen: dict[str, list[int]] = defaultdict(list)
        where: dict[str, set[str]] = defaultdict(set)
        made: dict[str, Any] = {}

        def handler(letter: str) -> Callable[[bytes], Coroutine[Any, Any, bytes]]:
            async def work(body: bytes) -> bytes:
                key, number = body.decode().split()
                seen[key].append(int(number))
                where[key].add(letter)
                await asyncio.sleep(source.choice((0, 0, 0.001, 0.003)))
                # It has been alone with its key all the time.
                assert seen[key][-1] == int(number)
                return body

            return work

        for letter in "abc":
            made[letter] = await rpc.serve(
                handler(letter), "127.0.0.1:0", limit=source.choice((2, 20))
            )
        endpoints = [str(server.address) for server in made.values()]
        async with await cluster.connect("test", endpoints=endpoints) as pool:
            counts: Counter[str] = Counter()
            calls: list[Any] = []

            def send() -> None:
                key = f"k{source.randrange(40)}"
                many = source.choice((1, 1, 1, 5))
                bodies = [f"{key} {counts[key] + n}".encode() for n in range(many)]
                counts[key] += many
                style = source.random()
                if many > 1:
                    calls.append(pool.call_many("m", bodies, order_key=key))
                elif style < 0.2:
                    pool.notify("m", bodies[0], order_key=key)
                else:
                    timeout_ms = source.choice((None, 20_000))
                    calls.append(pool.call("m", bodies[0], order_key=key, timeout_ms=timeout_ms))

            for _ in range(300):
                send()
                if source.random() < 0.1:
                    await asyncio.sleep(0.002)
            await asyncio.gather(*calls)
            while sum(map(len, seen.values())) < sum(counts.values()):
                await asyncio.sleep(0.005)
            assert all(len(letters) == 1 for letters in where.values())
            assert {letter for letters in where.values() for letter in letters} == set("abc")
            # One drains: its keys go elsewhere, when what it had is done, and still in order.
            calls.clear()
            for _ in range(100):
                send()
            closing = asyncio.create_task(made["a"].close())
            for _ in range(100):
                send()
                await asyncio.sleep(0.0005)
            await asyncio.gather(*calls)
            await closing
            while sum(map(len, seen.values())) < sum(counts.values()):
                await asyncio.sleep(0.005)
            assert all(numbers == list(range(counts[key])) for key, numbers in seen.items())
            assert_quiet(pool)
        for server in made.values():
            await server.close(drain_ms=0)

    run(work)


def test_calls_of_a_key_whose_server_dies_go_on_elsewhere_in_order() -> None:
    async def work() -> None:
        async with nodes("abc", delay_s=0.01, limit=5) as made, await pool_of(made) as pool:
            first = await pool.call("work", b"0", order_key="key")
            home = made[first[:1].decode()]
            calls = [pool.call("work", b"%d" % n, order_key="key") for n in range(1, 31)]
            await asyncio.sleep(0.025)
            await home.server.close(drain_ms=0)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            # Five at most were under way; what waited went to another, all to the same.
            failed = [end for end in ends if isinstance(end, BaseException)]
            assert 1 <= len(failed) <= 5 and {type(end) for end in failed} == {LinkLost}
            good = [end for end in ends if isinstance(end, bytes)]
            assert [int(end[2:]) for end in good] == sorted(int(end[2:]) for end in good)
            assert len({end[:1] for end in good if end[:1] != home.letter}) == 1
            assert_quiet(pool)

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


def test_what_cannot_be_connected_or_served_is_said_before_anything_opens() -> None:
    async def work() -> None:
        for wrong in (
            {},
            {"registry": "memory://x", "endpoints": []},
            {"endpoints": "127.0.0.1:1"},
            {"endpoints": {"127.0.0.1:1": 0}},
            {"endpoints": ["nowhere"]},
            {"endpoints": [], "policy": "best"},
            {"endpoints": [], "on_full": "maybe"},
            {"endpoints": [], "calls_max": 0},
        ):
            with pytest.raises(UsageError):
                await cluster.connect("test", **wrong)  # type: ignore[arg-type]
        for address in ("0.0.0.0:0", "unix:/tmp/nobody"):
            with pytest.raises(UsageError, match="advertise"):
                await cluster.serve({}, address, name="x", registry="memory://x")
        with pytest.raises(UsageError):
            await cluster.serve({}, "127.0.0.1:0", name="a b", registry="memory://x")
        with pytest.raises(UnavailableError, match="Connection refused"):
            await cluster.connect("test", endpoints=["127.0.0.1:1"], connect_timeout_ms=50)

    run(work)


def test_servers_on_unix_sockets_and_advertised_hosts_are_reached(tmp_path: Path) -> None:
    async def work() -> None:
        node = Node("u")
        async with await rpc.serve(node.work, f"unix:{tmp_path}/s") as server:
            endpoints = [server.address]
            async with await cluster.connect("test", endpoints=endpoints) as pool:
                assert await pool.call("any", b"1") == b"u:1"
        for advertise, expected in (("127.0.0.1", None), ("localhost:7001", 7001)):
            async with await cluster.serve(
                node.work, "0.0.0.0:0", name="x", registry="memory://adv", advertise=advertise
            ) as serving:
                assert serving.registration.port == expected or serving.address.port
        MemoryRegistry.forget("adv")

    run(work)
