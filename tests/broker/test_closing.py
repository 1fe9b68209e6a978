"""Stores that are closed, forked, dropped or used elsewhere while they are in use: every call ends,
in its result or in a clear error."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import broker
from dragoman.broker.blocking import BlockingStore
from dragoman.broker.client import ServedStore
from dragoman.errors import DragomanError, UsageError
from dragoman.queue import AsyncMessageStore, MessageStore
from tests.broker.worlds import Local, OnNats, Served, Serving, World
from tests.load_factor import load_factor
from tests.queue.api.test_closing import collect

ROOT = Path(__file__).parent.parent.parent
LONG_S = 60


def calls_of(store: MessageStore) -> list[Callable[[], Any]]:
    consumer = store.consumer("q", "g")
    return [
        lambda: store.put("q", b"x"),
        lambda: store.put_many("q", [b"x"] * 50),
        lambda: store.get("q", 0, 10),
        lambda: store.get_many([("q", 0, 10)] * 5),
        lambda: store.length("q"),
        lambda: store.first_offset("q"),
        lambda: store.wait_for("q", 1 << 40, 100),
        lambda: list(store.queues()),
        lambda: "q" in store,
        lambda: consumer.read(5, wait_ms=50),
        consumer.commit,
        lambda: store.commit("q", "g", 0),
        lambda: store.committed("q", "g"),
        lambda: store.groups("q"),
        lambda: store.trim("t", 1),
        lambda: store.delete("none"),
        store.sync,
        store.statistics,
    ]


def call_on(call: Callable[[], Any], began: threading.Event, ended: list[BaseException]) -> None:
    while True:
        try:
            call()
        except BaseException as error:
            ended.append(error)
            return
        finally:
            began.set()


def close_against(world: World, rounds: int) -> None:
    """Each call in a thread of its own, again and again, until the store says that it is closed."""
    for _ in range(rounds):
        store = world.open()
        store.put("q", b"first")
        ended: list[BaseException] = []
        calls = calls_of(store)
        begun = [threading.Event() for _ in calls]
        threads = [
            threading.Thread(target=call_on, args=(*each, ended), daemon=True)
            for each in zip(calls, begun, strict=True)
        ]
        for thread in threads:
            thread.start()
        for event in begun:
            assert event.wait(LONG_S)
        store.close()
        for thread in threads:
            thread.join(LONG_S)
        assert not any(thread.is_alive() for thread in threads), "calls hang"
        for error in ended:
            assert isinstance(error, UsageError), repr(error)
            assert "the store is closed" in str(error)
        assert len(ended) == len(threads)


def test_close_against_everything(world: World) -> None:
    close_against(world, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_close_against_everything_for_minutes(world: World) -> None:
    close_against(world, 40)


def test_a_call_that_waits_for_messages_ends_with_the_store(world: World) -> None:
    if isinstance(world, Local):
        pytest.skip("looks by itself")
    store = world.open()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            store.wait_for("q", 10, 3_600_000)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    store.put("q", b"x")
    time.sleep(0.2)
    begun_s = time.monotonic()
    store.close()
    thread.join(LONG_S)
    assert [str(error) for error in ended] == ["the store is closed"]
    assert time.monotonic() - begun_s < 4 * load_factor(), "it waited for the drain's end"


AT_EXIT = """
import sys
from dragoman import broker
from dragoman.broker.blocking import BlockingStore
from dragoman.queue import AsyncQueueStore, QueueStore

async def opening():
    return AsyncQueueStore(QueueStore(where, memory_bytes=32 << 20, cache_bytes=1 << 20))

class Holder:
    def __init__(self, store):
        self.store = store
    def __del__(self):
        try:
            self.store.put("q", b"late")
        except Exception as error:
            print("put:", error)
        self.store.close()
        print("closed")

where = sys.argv[1]
store = broker.open_store(where) if ":" in where else BlockingStore(opening)
store.put("q", b"x")
sys.modules["held"] = Holder(store)  # type: ignore
"""


def test_put_and_close_at_the_interpreters_exit_end(world: World, tmp_path: Path) -> None:
    if isinstance(world, Served):
        where = f"dragoman://{world.serving.address}"
    elif isinstance(world, OnNats):
        where = world.url
    else:
        where = str(tmp_path / "another")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AT_EXIT, where],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=LONG_S,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["put: the store is closed", "closed"], done.stderr


def opening_of(world: World) -> Callable[[], Any]:
    if isinstance(world, Served):
        return lambda: broker.open_async(f"dragoman://{world.serving.address}")
    if isinstance(world, OnNats):
        return lambda: broker.open_async(world.url)
    assert isinstance(world, Local)
    return lambda: broker.open_async(world.place, memory_bytes=32 << 20, cache_bytes=1 << 20)


def test_a_close_that_was_cancelled_goes_on_and_can_be_waited_for_again(world: World) -> None:
    async def run() -> None:
        store: AsyncMessageStore = await opening_of(world)()
        await store.put("q", b"x")
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(UsageError, match="the store is closed"):
            await store.put("q", b"x")
        await store.close()
        if isinstance(store, ServedStore):
            with pytest.raises(DragomanError):
                await store._caller.call("queue.sync", b"", timeout_ms=1000)
        again: AsyncMessageStore = await opening_of(world)()
        assert await again.length("q") == 1
        await again.close()

    asyncio.run(run())


def test_a_forked_child_is_told_to_open_its_own(world: World) -> None:
    with world.open() as store:
        store.put("q", b"x")
        consumer = store.consumer("q", "g")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            said: list[str] = []
            try:
                for call in (
                    lambda: store.put("q", b"x"),
                    lambda: store.get("q", 0, 1),
                    lambda: consumer.read(1),
                    lambda: store.length("q"),
                    store.sync,
                ):
                    try:
                        said.append(repr(call()))
                    except BaseException as error:
                        said.append(f"{type(error).__name__}: {error}")
                store.close()
                said.append("closed")
                os.write(write, "\n".join(said).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            lines = pipe.read().splitlines()
        os.waitpid(child, 0)
        assert lines[-1] == "closed"
        assert (
            lines[:-1]
            == [
                "UsageError: the store was opened by the process that this one was forked from:"
                " open it anew"
            ]
            * 5
        )
        assert store.put("q", b"y") == 1
        assert store.get("q", 0, 5) == [b"x", b"y"]


def test_a_store_that_is_used_on_another_loop_says_so(world: World) -> None:
    loop = asyncio.new_event_loop()
    store: AsyncMessageStore = loop.run_until_complete(opening_of(world)())
    loop.run_until_complete(store.put("q", b"x"))

    async def use() -> None:
        for call in (
            lambda: store.put("q", b"x"),
            lambda: store.put_many("q", [b"x"]),
            lambda: store.get("q", 0, 1),
            lambda: store.get_many([("q", 0, 1)]),
            lambda: store.delete("q"),
            store.sync,
            store.close,
        ):
            with pytest.raises(UsageError, match="loop"):
                await asyncio.wait_for(call(), LONG_S)

    asyncio.run(use())
    assert loop.run_until_complete(store.length("q")) == 1
    loop.run_until_complete(store.close())
    loop.close()


def test_a_store_that_is_dropped_is_told_and_closed(world: World) -> None:
    if isinstance(world, Local) and type(world) is Local:
        pytest.skip("see tests/queue/api/test_closing.py")
    store = world.open()
    assert isinstance(store, BlockingStore)
    store.put("q", b"x")
    thread = store._thread
    with pytest.warns(ResourceWarning, match="unclosed <BlockingStore of ") as told:
        del store
        collect(told)
    thread.join(LONG_S)
    assert not thread.is_alive()
    again = world.open()
    assert again.length("q") == 1
    again.close()


def test_an_asynchronous_store_that_is_dropped_is_told_and_closed(world: World) -> None:
    async def run() -> None:
        store: AsyncMessageStore = await opening_of(world)()
        await store.put("q", b"x")
        with pytest.warns(ResourceWarning, match="unclosed <") as told:
            del store
            collect(told)
        again: AsyncMessageStore = await opening_of(world)()
        assert await again.length("q") == 1
        await again.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=LONG_S)

    asyncio.run(run())


def test_a_process_that_ends_says_nothing_of_its_stores(world: World, tmp_path: Path) -> None:
    if isinstance(world, Served):
        where = f"dragoman://{world.serving.address}"
    elif isinstance(world, OnNats):
        where = world.url
    else:
        where = str(tmp_path / "another")
    program = AT_EXIT.replace('sys.modules["held"] = Holder(store)  # type: ignore', "")
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program, where],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=LONG_S,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    serving = Serving(tmp_path / "store")
    yield f"dragoman://{serving.address}"
    serving.stop()


def test_what_is_collected_on_the_stores_own_thread_does_not_hold_it_up(served: str) -> None:
    store = broker.open_store(served)
    assert isinstance(store, BlockingStore)
    said: list[str] = []
    done = threading.Event()

    class Late:
        def __del__(self) -> None:
            try:
                store.put("q", b"late")
            except UsageError as error:
                said.append(str(error))
            store.close()
            done.set()

    def collect() -> None:
        late = Late()
        del late
        gc.collect()

    store._loop.call_soon_threadsafe(collect)
    assert done.wait(LONG_S)
    assert "own thread" in said[0]
    store._thread.join(LONG_S)
    assert not store._thread.is_alive()
    with pytest.raises(UsageError, match="the store is closed"):
        store.put("q", b"x")
