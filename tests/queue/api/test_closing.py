"""Calls and closing are kept apart: whatever meets ``close`` ends in its result or is refused."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import UsageError
from dragoman.queue import AsyncQueueStore, QueueStore, Workers
from dragoman.queue.api.background import run_upkeep
from tests.load_factor import load_factor

CLOSED = "the store is closed"
DURABILITIES = ["none", "interval(5)", "always"]


def worked(workers: Workers) -> None:
    messages = workers.take(3)
    workers.nack(messages[:1])
    workers.extend(messages[1:])
    workers.ack(messages[1:])


# Every public method, as a user calls it.
CALLS: dict[str, Callable[[QueueStore], Any]] = {
    "put": lambda s: s.put("q", b"m"),
    "put_many": lambda s: s.put_many("q", [b"m"] * 50),
    "get": lambda s: s.get("q", 0, 10),
    "get_many": lambda s: s.get_many([("q", 0, 10), ("r", 0, 1), ("nobody", 0, 1)]),
    "length": lambda s: s.length("q"),
    "first_offset": lambda s: s.first_offset("q"),
    "contains": lambda s: "q" in s,
    "queues": lambda s: list(s.queues()),
    "wait_for": lambda s: s.wait_for("q", 0, 1),
    "commit": lambda s: s.commit("q", "g", 1),
    "committed": lambda s: s.committed("q", "g"),
    "groups": lambda s: s.groups("q"),
    "consumer": lambda s: s.consumer("q", "g").read(3),
    "workers": lambda s: worked(s.workers("q", "w", attempts_max=9, dead_letter="dead")),
    "trim": lambda s: s.trim("t", 1),
    "delete": lambda s: s.delete("gone"),
    "sync": lambda s: s.sync(),
    "upkeep": lambda s: s.upkeep(),
    "compact": lambda s: s.compact(),
    "verify": lambda s: s.verify(),
    "statistics": lambda s: s.statistics(),
    "damage": lambda s: s.damage,
}


def filled(path: Path, durability: str = "none") -> QueueStore:
    store = QueueStore(path, durability=durability, segment_bytes=1 << 16)
    store.put_many("q", [b"%d" % i * 20 for i in range(3000)])
    store.put_many("r", [b"r"] * 3)
    store.put_many("t", [b"t"] * 3)
    store.commit("q", "g", 5)
    return store


def public_methods() -> set[str]:
    names = {name for name in dir(QueueStore) if not name.startswith("_")}
    # What only says how it was opened.
    return names - {"close", "open"} | {"contains"}


def test_the_list_of_calls_is_complete() -> None:
    assert set(CALLS) - {"consumer"} <= public_methods()
    assert public_methods() - set(CALLS) <= {"recovery"}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_a_closed_store_says_so(name: str, tmp_path: Path) -> None:
    store = filled(tmp_path)
    consumer = store.consumer("q", "g")
    store.close()
    with pytest.raises(UsageError, match=CLOSED):
        CALLS[name](store)
    with pytest.raises(UsageError, match=CLOSED):
        consumer.read()
    with pytest.raises(UsageError, match=CLOSED):
        consumer.commit()
    store.close()


def test_an_async_store_that_is_closed_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        store = AsyncQueueStore(filled(tmp_path))
        consumer = await store.consumer("q", "g")
        await store.close()
        calls: list[Callable[[], Any]] = [
            lambda: store.put("q", b"m"),
            lambda: store.put_many("q", [b"m"]),
            lambda: store.get("q", 0),
            lambda: store.get_many([("q", 0, 1)]),
            lambda: store.length("q"),
            lambda: store.first_offset("q"),
            lambda: store.contains("q"),
            lambda: store.wait_for("q", 0, 1),
            lambda: store.commit("q", "g", 1),
            lambda: store.committed("q", "g"),
            lambda: store.groups("q"),
            lambda: store.consumer("q", "g"),
            lambda: store.trim("q", 1),
            lambda: store.delete("q"),
            store.sync,
            store.statistics,
            consumer.read,
            consumer.commit,
        ]
        for call in calls:
            with pytest.raises(UsageError, match=CLOSED):
                await call()
        with pytest.raises(UsageError, match=CLOSED):
            [name async for name in store.queues()]
        await store.close()

    asyncio.run(main())


class Attack:
    """Threads in every method of a store until it is closed."""

    def __init__(self, store: QueueStore) -> None:
        self.store = store
        self.faults: list[str] = []
        self.puts = 0
        self.enough = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(name,)) for name in CALLS]

    def work(self, name: str) -> None:
        try:
            while True:
                CALLS[name](self.store)
                if name == "put":
                    self.puts += 1
                    if self.puts == 10:
                        self.enough.set()
        except UsageError as error:
            if str(error) != CLOSED:
                self.faults.append(f"{name}: {error}")
        except BaseException as error:
            self.faults.append(f"{name}: {error!r}")
        self.enough.set()


def close_against(path: Path, durability: str, rounds: int) -> None:
    """Each round: threads in every method while the store closes; then it holds what it should."""
    filled(path, durability).close()
    for _ in range(rounds):
        store = QueueStore(path, durability=durability)
        length = store.length("q")
        attack = Attack(store)
        for thread in attack.threads:
            thread.start()
        assert attack.enough.wait(60)
        closers = [threading.Thread(target=store.close) for _ in range(2)]
        for thread in closers:
            thread.start()
        for thread in [*closers, *attack.threads]:
            thread.join()
        assert attack.faults == []
        with QueueStore(path, read_only=True) as again:
            assert again.length("q") >= length + attack.puts
            assert again.verify() == []


@pytest.mark.parametrize("durability", DURABILITIES)
def test_close_against_everything(durability: str, tmp_path: Path) -> None:
    close_against(tmp_path, durability, rounds=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_close_against_everything_for_minutes(durability: str, tmp_path: Path) -> None:
    # Each round adds to the store and reads all of it: a few in each, or it would take hours.
    for number in range(20):
        close_against(tmp_path / str(number), durability, rounds=10)


def test_closing_from_within_a_call_is_refused_instead_of_waiting_for_itself(
    tmp_path: Path,
) -> None:
    store = filled(tmp_path)
    store.put_many("q", [bytes(60_000)] * 20)  # blocks of their own
    store._flush_log()
    refusals: list[UsageError] = []

    def progress(_done: int, _whole: int) -> None:
        with pytest.raises(UsageError, match="from within a call") as caught:
            store.close()
        refusals.append(caught.value)

    assert store.verify(progress) == []
    assert refusals
    assert store.length("q") == 3020
    store.close()


def test_what_a_generator_of_messages_closes_is_closed(tmp_path: Path) -> None:
    store = filled(tmp_path)

    def pairs() -> Iterator[tuple[str, bytes]]:
        yield "q", b"one"
        store.close()
        yield "q", b"two"

    with pytest.raises(UsageError, match=CLOSED):
        store.put_many(pairs())


def test_closing_ends_a_verification_that_is_under_way(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.put_many("q", [bytes(60_000)] * 200)
    store._flush_log()
    reached = threading.Event()
    closing = threading.Event()
    caught: list[BaseException] = []

    def progress(_done: int, _whole: int) -> None:
        reached.set()
        closing.wait(30)

    def verify() -> None:
        try:
            store.verify(progress)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=verify)
    thread.start()
    assert reached.wait(30)
    closer = threading.Thread(target=store.close)
    closer.start()
    while store.open:
        pass
    closing.set()
    closer.join(30)
    thread.join(30)
    assert not closer.is_alive() and not thread.is_alive()
    assert [str(error) for error in caught] in ([CLOSED], [])


AT_EXIT = """
import gc, sys
from dragoman.queue import QueueStore

class Owner:
    def __init__(self):
        self.store = QueueStore(sys.argv[1], durability=sys.argv[2])
        self.store.put("q", b"first")
    def __del__(self):
        {last}

owner = Owner()
owner.itself = owner
sys.modules["kept"] = owner
"""


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("last", ["self.store.put('q', b'last')", "self.store.close()", "pass"])
def test_a_process_ends_whatever_its_last_objects_do(
    last: str, durability: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT.format(last=last), str(tmp_path), durability],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr or CLOSED in done.stderr
    with QueueStore(tmp_path) as store:
        # It was closed in order, under ``none`` too.
        assert store.get("q", 0, 9) == [b"first"]


def collect(told: pytest.WarningsRecorder) -> None:
    """Until a warning is told: a thread of the store's own may have it for a moment."""
    until_s = time.monotonic() + 60 * load_factor()
    while not told.list:
        assert time.monotonic() < until_s
        gc.collect()
        time.sleep(0.001)


@pytest.mark.parametrize("kind", [QueueStore, lambda path: AsyncQueueStore(QueueStore(path))])
def test_a_store_that_is_dropped_is_told_and_closed(kind: Any, tmp_path: Path) -> None:
    threads = threading.active_count()
    store = kind(tmp_path)
    if isinstance(store, QueueStore):
        store.put("q", b"m")
        store.workers("q", "g").take()
    with pytest.warns(ResourceWarning, match=f"unclosed .*{tmp_path.name}") as told:
        del store
        collect(told)
    assert threading.active_count() == threads
    with QueueStore(tmp_path) as again:
        assert again.damage == []


def test_a_store_may_be_dropped_by_its_own_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = threading.Event()

    class Collecting:
        def await_upkeep(self, _: int) -> bool:
            assert dropped.wait(60)
            gc.collect()
            return False

    monkeypatch.setattr(
        "dragoman.queue.api.store.run_upkeep",
        lambda store, _, ended: run_upkeep(store, Collecting(), ended),  # type: ignore[arg-type]
    )
    store = QueueStore(tmp_path)
    store.put("q", b"m")
    thread = next(each for each in store._threads if "upkeep" in each.name)
    gc.disable()
    try:
        with pytest.warns(ResourceWarning):
            del store
            dropped.set()
            thread.join(60)
    finally:
        gc.enable()
    assert not thread.is_alive()
    QueueStore(tmp_path).close()


def test_a_store_is_closed_where_warnings_are_errors(tmp_path: Path) -> None:
    program = (
        "import gc, sys, time; from dragoman.queue import QueueStore; s = QueueStore(sys.argv[1]);"
        " s.put('q', b'm'); del s; [(gc.collect(), time.sleep(0.05)) for _ in range(20)];"
        " QueueStore(sys.argv[1]).close(); print('closed')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


def test_a_store_whose_close_was_interrupted_can_be_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    threads = threading.active_count()
    store = QueueStore(tmp_path)
    store.put("q", b"m")
    with monkeypatch.context() as patched:
        patched.setattr(QueueStore, "_sync_all", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.close()
    with pytest.warns(ResourceWarning) as told:
        del store
        collect(told)
    assert threading.active_count() == threads
    with QueueStore(tmp_path) as again:
        assert again.get("q", 0) == [b"m"]


@pytest.mark.parametrize(
    "closing", ["s.close()", "del s; [(gc.collect(), time.sleep(0.05)) for _ in range(20)]", "pass"]
)
def test_a_process_that_ends_says_nothing_of_its_stores(closing: str, tmp_path: Path) -> None:
    program = (
        "import gc, sys, time, warnings; from dragoman.queue import QueueStore;"
        " s = QueueStore(sys.argv[1]); s.put('q', b'm'); " + closing
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert ("ResourceWarning" in done.stderr) == ("del" in closing), done.stderr
    with QueueStore(tmp_path) as again:
        assert again.get("q", 0) == [b"m"]


def test_stores_come_and_go_without_leaving_descriptors_or_threads(tmp_path: Path) -> None:
    def count() -> tuple[int, int]:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    filled(tmp_path).close()
    before = count()
    for _ in range(6):
        with QueueStore(tmp_path) as store:
            store.put("q", b"m")
        with QueueStore(tmp_path, read_only=True) as store:
            store.get("q", 0)
        with pytest.raises(UsageError):
            QueueStore(tmp_path / "nothing", create=False)
    assert count() == before


def test_a_close_that_was_cancelled_goes_on_and_can_be_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        store = AsyncQueueStore(filled(tmp_path, "always"))
        puts = [asyncio.create_task(store.put("q", b"m")) for _ in range(100)]
        await asyncio.sleep(0)
        for _ in range(3):
            closing = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        await store.close()
        assert sorted(await asyncio.gather(*puts)) == list(range(3000, 3100))
        QueueStore(tmp_path).close()

    asyncio.run(main())
