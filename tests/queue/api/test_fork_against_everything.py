"""Processes are forked while threads are in every method of a store: no child hangs or reaches what
is its parent's, and the parent loses nothing."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import UsageError
from dragoman.queue import MessageStore, QueueStore
from tests.broker.test_closing import calls_of
from tests.broker.worlds import Async, Served, World
from tests.load_factor import load_factor

from .test_closing import CALLS, DURABILITIES, filled, worked
from .test_forking import FOREIGN, ended, in_child

ROOT = Path(__file__).parents[3]


def forked(work: Callable[[], None]) -> int:
    """How a child has ended that was forked bare."""
    return ended(in_child(work))


def multiprocessed(work: Callable[[], None]) -> int:
    """How a child has ended that ``multiprocessing`` has forked."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60 * load_factor())
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


WAYS = {"fork": forked, "multiprocessing": multiprocessed}


class Busy:
    """Threads that call without end, until ``stop``."""

    def __init__(self, calls: list[Callable[[], Any]]) -> None:
        self._ended = threading.Event()
        self.faults: list[BaseException] = []
        self._begun = [threading.Event() for _ in calls]
        self._threads = [
            threading.Thread(target=self._work, args=each)
            for each in zip(calls, self._begun, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        for event in self._begun:
            assert event.wait(60 * load_factor())

    def _work(self, call: Callable[[], Any], begun: threading.Event) -> None:
        try:
            while not self._ended.is_set():
                call()
                begun.set()
        except BaseException as error:
            self.faults.append(error)
            begun.set()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        assert self.faults == []


def refused(calls: list[Callable[[], Any]]) -> None:
    for call in calls:
        with pytest.raises(UsageError, match=FOREIGN):
            call()


def fork_against(path: Path, durability: str, way: str, rounds: int) -> None:
    """A ``QueueStore``: threads put, get, commit, and share work."""
    store = filled(path, durability)
    offsets: list[int] = []
    names = ["get", "get_many", "commit", "groups", "put_many", "sync", "upkeep", "verify"]
    names += ["workers", "consumer", "trim", "delete"]
    calls: list[Callable[[], Any]] = [lambda name=name: CALLS[name](store) for name in names]
    calls.append(lambda: offsets.append(store.put("p", b"x")))
    workers = store.workers("q", "w", attempts_max=9, dead_letter="dead")
    consumer = store.consumer("q", "g")

    def child() -> None:
        refused([lambda name=name: CALLS[name](store) for name in ("put", "get", "commit")])
        refused([store.statistics, lambda: worked(workers), consumer.read])
        store.close()

    busy = Busy(calls)
    try:
        for _ in range(rounds):
            assert WAYS[way](child) == 0
    finally:
        busy.stop()
    store.close()
    assert offsets == list(range(len(offsets))) and offsets
    with QueueStore(path) as again:
        assert again.damage == [] and again.verify() == []
        assert again.length("p") == len(offsets)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_fork_against_everything(durability: str, way: str, tmp_path: Path) -> None:
    fork_against(tmp_path, durability, way, rounds=8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_fork_against_everything_for_minutes(durability: str, way: str, tmp_path: Path) -> None:
    fork_against(tmp_path, durability, way, rounds=500)


def fork_against_world(world: World, way: str, rounds: int) -> None:
    """A store with a loop and a thread of its own: one for asyncio, or one that is served."""
    store: MessageStore = world.open()
    store.put("q", b"first")
    workers = store.workers("q", "w")
    calls = calls_of(store)
    calls.append(lambda: workers.ack(workers.take(3)))

    def child() -> None:
        refused([calls[0], calls[2], calls[4], store.statistics, workers.take])
        store.close()

    busy = Busy(calls)
    try:
        for _ in range(rounds):
            assert WAYS[way](child) == 0
    finally:
        busy.stop()
    length = store.length("q")
    store.close()
    again = world.open()
    assert again.length("q") == length
    again.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Async, Served])
def test_fork_against_a_store_on_a_loop(kind: Any, way: str, tmp_path: Path) -> None:
    world = kind(tmp_path)
    try:
        fork_against_world(world, way, rounds=5)
    finally:
        world.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Async, Served])
def test_fork_against_a_store_on_a_loop_for_minutes(kind: Any, way: str, tmp_path: Path) -> None:
    world = kind(tmp_path)
    try:
        fork_against_world(world, way, rounds=200)
    finally:
        world.stop()


ENDING = """
import asyncio, os, sys, threading
from dragoman import broker
from dragoman.queue import AsyncQueueStore, QueueStore

store = QueueStore(sys.argv[1], durability="always")
asynchronous = AsyncQueueStore(QueueStore(sys.argv[1] + "-async"))
asyncio.run(asynchronous.put("q", b"m"))
stop = threading.Event()

def work():
    while not stop.is_set():
        store.put("q", b"m")

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        # It ends as programs end: with all that the interpreter does then.
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
stop.set()
for thread in threads:
    thread.join()
store.close()
asynchronous.store.close()
with QueueStore(sys.argv[1]) as again:
    assert again.damage == []
"""


def test_a_child_that_ends_as_programs_end_says_and_disturbs_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", ENDING, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
