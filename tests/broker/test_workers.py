"""Groups that share work, on every store that has them: locally, for asyncio, and served."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import broker
from dragoman.broker.server import StoreService
from dragoman.errors import UsageError
from dragoman.queue import Message, MessageStore
from tests.broker.test_served_process import ROOT, process
from tests.broker.worlds import Async, Local, Served, Serving, World

WORLDS = {"local": Local, "async": Async, "served": Served}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Every kind of store that has workers."""
    world = WORLDS[request.param](tmp_path / "store")
    try:
        yield world
    finally:
        world.stop()


@pytest.fixture
def store(world: World) -> Iterator[MessageStore]:
    """An open store of every kind."""
    with world.open() as store:
        yield store


def told(messages: list[Message]) -> list[tuple[int, int, bytes]]:
    return [(m.offset, m.attempts, m.body) for m in messages]


def test_work_is_shared_settled_and_given_again(store: MessageStore) -> None:
    store.put_many("q", [b"%d" % i for i in range(6)])
    one = store.workers("q", "g", lease_ms=60_000)
    two = store.workers(b"q", b"g", lease_ms=60_000)
    first, second = one.take(2), two.take(3)
    assert told(first) == [(0, 1, b"0"), (1, 1, b"1")]
    assert told(second) == [(2, 1, b"2"), (3, 1, b"3"), (4, 1, b"4")]
    assert (two.ack(second[:2]), store.committed("q", "g")) == (2, 0)
    assert (one.ack(first), store.committed("q", "g")) == (2, 4)
    assert two.nack(second[2]) == 1
    assert told(one.take(9)) == [(4, 2, b"4"), (5, 1, b"5")]
    assert one.take(9) == two.take(9, wait_ms=30) == []
    assert store.groups("q") == {b"g": 4}


def test_leases_end_and_are_extended(store: MessageStore) -> None:
    store.put_many("q", [b"0", b"1"])
    workers = store.workers("q", "g", lease_ms=40)
    taken = workers.take(2)
    assert workers.extend(taken[1], lease_ms=60_000) == 1
    assert told(workers.take(9, wait_ms=60_000)) == [(0, 2, b"0")]
    assert workers.ack(taken) == 1
    later = workers.take(9, wait_ms=60_000)
    assert told(later) == [(0, 3, b"0")]
    assert workers.nack(later, delay_ms=50) == 1
    began = time.monotonic()
    assert told(workers.take(9, wait_ms=60_000)) == [(0, 4, b"0")]
    assert time.monotonic() - began > 0.03


def test_dead_letters_and_order_by_key(store: MessageStore) -> None:
    store.put_many("q", [b"a:0", b"a:1", b"b:2"])
    options: dict[str, Any] = {"attempts_max": 2, "dead_letter": "dead", "ordered_by": b":"}
    workers = store.workers("q", "g", **options)
    taken = workers.take(9)
    assert told(taken) == [(0, 1, b"a:0"), (2, 1, b"b:2")]
    workers.nack(taken[:1])
    again = workers.take(9)
    assert told(again) == [(0, 2, b"a:0")]
    assert workers.nack(again) == 1
    assert told(workers.take(9, wait_ms=60_000)) == [(1, 1, b"a:1")]
    assert store.get("dead", 0, 9) == [b"a:0"]
    assert store.committed("q", "g") == 1


def test_a_worker_waits_for_a_message(store: MessageStore) -> None:
    workers = store.workers("q", "g")
    assert workers.take(5, wait_ms=20) == []
    timer = threading.Timer(0.1, lambda: store.put("q", b"late"))
    timer.start()
    assert told(workers.take(5, wait_ms=60_000)) == [(0, 1, b"late")]
    timer.join()


def test_what_is_large_comes_in_several_takes(store: MessageStore) -> None:
    store.put_many("q", [bytes(5_000_000)] * 6)
    workers = store.workers("q", "g")
    sizes = []
    while messages := workers.take(100):
        sizes.append(len(messages))
        workers.ack(messages)
    assert sum(sizes) == 6 and len(sizes) > 1
    assert store.committed("q", "g") == 6


def test_more_may_be_settled_at_once_than_one_request_has(store: MessageStore) -> None:
    count = 100_500
    store.put_many("q", [b"m"] * count)
    workers = store.workers("q", "g", window=1 << 20)
    messages: list[Message] = []
    while taken := workers.take(60_000):
        messages += taken
    assert workers.extend(messages) == workers.ack(messages) == count
    assert store.committed("q", "g") == count


def test_misuse_is_refused_alike(store: MessageStore) -> None:
    store.put("q", b"m")
    for options, reason in (
        ({"lease_ms": 0}, "lease_ms is"),
        ({"attempts_max": 3}, "go together"),
        ({"attempts_max": 3, "dead_letter": "q"}, "another queue"),
        ({"ordered_by": 0}, "ordered_by is"),
        ({"window": 0}, "window is"),
    ):
        with pytest.raises(UsageError, match=reason):
            store.workers("q", "g", **options)
    workers = store.workers("q", "g")
    with pytest.raises(UsageError, match="1 to 100000 messages"):
        workers.take(0)
    with pytest.raises(UsageError, match="no messages that take"):
        workers.ack([1])  # type: ignore[list-item]
    taken = workers.take()
    with pytest.raises(UsageError, match="other attempts_max"):
        store.workers("q", "g", window=5).take()
    assert workers.ack(taken) == 1


def test_what_is_done_survives_and_the_rest_is_given_again(world: World) -> None:
    with world.open() as store:
        store.put_many("q", [b"%d" % i for i in range(6)])
        workers = store.workers("q", "g", lease_ms=50, attempts_max=9, dead_letter="dead")
        taken = workers.take(5)
        workers.ack([taken[0], taken[2], taken[3]])
    world.restart()
    with world.open() as store:
        workers = store.workers("q", "g", lease_ms=50, attempts_max=9, dead_letter="dead")
        seen: list[tuple[int, int]] = []
        while len(seen) < 3:
            messages = workers.take(9, wait_ms=60_000)
            seen += [(m.offset, m.attempts) for m in messages]
            workers.ack(messages)
        assert sorted(seen) == [(1, 2), (4, 2), (5, 1)]
        # Others than those who were given it count for nothing, whatever offset they name.
        assert workers.ack(taken) == 0 or type(world).__name__ != "Served"
        assert store.committed("q", "g") == 6


def test_a_closed_store_says_so_to_its_workers(world: World) -> None:
    store = world.open()
    store.put("q", b"m")
    workers = store.workers("q", "g")
    taken = workers.take()
    caught: list[BaseException] = []
    began = threading.Event()

    def wait() -> None:
        began.set()
        try:
            workers.take(wait_ms=60_000)
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert began.wait(30)
    time.sleep(0.05)
    store.close()
    thread.join(30)
    assert ["the store is closed" in str(error) for error in caught] == [True]
    for call in (workers.take, lambda: workers.ack(taken), lambda: store.workers("q", "g")):
        with contextlib.suppress(AttributeError), pytest.raises(UsageError, match="closed"):
            made = call()
            if not isinstance(made, int | list):
                made.take()


def test_a_function_does_not_travel(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    with (
        broker.open_store(f"dragoman://{serving.address}") as store,
        pytest.raises(UsageError, match="a function does not travel"),
    ):
        store.workers("q", "g", ordered_by=lambda body: body)
    serving.stop()


def test_an_older_server_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = StoreService.handlers

    def older(self: StoreService) -> Any:
        handlers = whole(self)
        return {n: h for n, h in handlers.items() if n not in ("queue.take", "queue.settle")}

    monkeypatch.setattr(StoreService, "handlers", older)
    serving = Serving(tmp_path)
    with broker.open_store(f"dragoman://{serving.address}") as store:
        store.put("q", b"m")
        with pytest.raises(UsageError, match=r"127\.0\.0\.1:\d+: the server there is an older one"):
            store.workers("q", "g").take()
    serving.stop()


def test_what_was_taken_before_a_restart_is_given_again_after_its_lease(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        address, child = stack.enter_context(process(tmp_path, "127.0.0.1:0"))
        with broker.open_store(f"dragoman://{address}") as store:
            store.put_many("q", [b"0", b"1"])
            store.sync()
            workers = store.workers("q", "g", lease_ms=1500, attempts_max=3, dead_letter="d")
            taken = workers.take(2)
            child.kill()
            child.wait()
            stack.enter_context(process(tmp_path, address))
            # They are with somebody, as far as anybody knows; but not with who says so.
            assert workers.take(9) == []
            assert workers.ack(taken) == 0
            assert [m.attempts for m in workers.take(9, wait_ms=60_000)] == [2, 2]


WORKER = """
import sys
from dragoman import broker

with broker.open_store(f"dragoman://{sys.argv[1]}") as store:
    workers = store.workers("q", "g", lease_ms=1000)
    print("ready", flush=True)
    while True:
        messages = workers.take(7, wait_ms=5000)
        store.put_many("done", [message.body for message in messages])
        workers.ack(messages)
"""


def test_workers_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """Real processes over a served store, killed -9 in the middle of their work."""
    count = 3000
    program = tmp_path / "worker.py"
    program.write_text(WORKER)

    def worker(address: str) -> subprocess.Popen[str]:
        started = subprocess.Popen(
            [sys.executable, program, address],
            env={"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(started.stdout.close)  # type: ignore[union-attr]
        stack.callback(started.wait)
        stack.callback(started.kill)
        return started

    with contextlib.ExitStack() as stack:
        address, _ = stack.enter_context(process(tmp_path / "store", "127.0.0.1:0"))
        store = stack.enter_context(broker.open_store(f"dragoman://{address}"))
        store.put_many("q", [b"%d" % i for i in range(count)])
        alive = [worker(address) for _ in range(3)]
        for each in alive:
            assert each.stdout is not None and each.stdout.readline() == "ready\n"
        for killed in range(4):
            store.wait_for("done", 400 * (killed + 1), 60_000)
            alive[0].send_signal(signal.SIGKILL)
            alive = [*alive[1:], worker(address)]
        until = time.monotonic() + 60
        while store.committed("q", "g") < count:
            assert time.monotonic() < until
            time.sleep(0.02)
        done = store.get("done", 0, store.length("done"))
        assert set(done) == {b"%d" % i for i in range(count)}
        # Twice at most what the killed ones had.
        assert len(done) - count <= 4 * 7
