"""A process that was forked from one with an open store has none, and harms nothing."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.errors import UsageError
from dragoman.queue import AsyncQueueStore, QueueStore

from .test_closing import CALLS, DURABILITIES, filled

FOREIGN = "opened by the process that this one was forked from"


def in_child(work: Callable[[], None]) -> int:
    """The pid of a child that runs ``work`` and ends with 0 if it raised nothing."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(30)
        work()
        code = 0
    except BaseException as error:
        os.write(2, f"in the child: {error!r}\n".encode())
    finally:
        os._exit(code)


def until_closed(reader: int, writer: int) -> None:
    """Wait until the parent closes its end, or ends."""
    os.close(writer)
    os.read(reader, 1)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("durability", DURABILITIES)
def test_every_call_of_a_child_is_refused_and_its_close_does_nothing(
    durability: str, tmp_path: Path
) -> None:
    store = filled(tmp_path, durability)
    consumer = store.consumer("q", "g")

    def child() -> None:
        for name, call in CALLS.items():
            try:
                call(store)
            except UsageError as error:
                assert FOREIGN in str(error), (name, error)
            else:
                raise AssertionError(name)
        with contextlib.suppress(UsageError):
            consumer.commit()
            raise AssertionError("commit")
        store.close()
        store.close()
        store.__exit__(None, None, None)

    assert ended(in_child(child)) == 0
    assert store.put("q", b"after") == 3000
    store.commit("q", "g", 7)
    store.close()
    with QueueStore(tmp_path) as again:
        assert again.damage == [] and again.verify() == []
        assert again.get("q", 3000) == [b"after"]
        assert again.groups("q") == {b"g": 7}


def test_a_child_of_an_async_store_is_refused_too(tmp_path: Path) -> None:
    store = filled(tmp_path)
    asynchronous = AsyncQueueStore(store)

    async def use() -> None:
        await asyncio.gather(*(asynchronous.get_many([("q", n, 1)]) for n in range(50)))

    asyncio.run(use())  # its threads are there, and idle

    def child() -> None:
        async def main() -> None:
            for call in (
                lambda: asynchronous.put("q", b"m"),
                lambda: asynchronous.get("q", 0),
                lambda: asynchronous.get_many([("q", 0, 1)]),
                lambda: asynchronous.length("q"),
                asynchronous.sync,
                lambda: asynchronous.commit("q", "g", 1),
            ):
                with pytest.raises(UsageError, match=FOREIGN):
                    await call()
            await asynchronous.close()

        asyncio.run(main())

    assert ended(in_child(child)) == 0
    store.close()


def test_the_lock_is_the_owners_alone(tmp_path: Path) -> None:
    store = filled(tmp_path)
    go_r, go_w = os.pipe()
    pid = in_child(lambda: until_closed(go_r, go_w))
    try:
        store.close()
        # The child lives, and has no part in it.
        QueueStore(tmp_path).close()
    finally:
        os.close(go_w)
        assert ended(pid) == 0
        os.close(go_r)


def test_the_lock_goes_with_its_owner_who_is_killed(tmp_path: Path) -> None:
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()

    def owner() -> None:
        store = filled(tmp_path, "always")
        grandchild = in_child(lambda: until_closed(go_r, go_w))
        os.write(ready_w, b"%d" % grandchild)
        signal.pause()
        store.close()

    pid = in_child(owner)
    assert int(os.read(ready_r, 20)) > 0
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    with QueueStore(tmp_path) as store:
        assert store.length("q") == 3000
    for descriptor in (go_w, go_r, ready_r, ready_w):
        os.close(descriptor)


def test_a_child_opens_another_store_and_the_same_one_later(tmp_path: Path) -> None:
    store = filled(tmp_path / "a")

    def other() -> None:
        with QueueStore(tmp_path / "b") as mine:
            mine.put("q", b"mine")

    assert ended(in_child(other)) == 0
    store.close()

    def same() -> None:
        with QueueStore(tmp_path / "a") as mine:
            assert mine.put("q", b"child") == 3000

    assert ended(in_child(same)) == 0
    with QueueStore(tmp_path / "a") as again:
        assert again.get("q", 3000) == [b"child"]


def test_a_grandchild_keeps_what_its_parent_has_opened_since(tmp_path: Path) -> None:
    store = filled(tmp_path / "a", "always")
    store.get("q", 0, 3000)

    def grandchild(mine: list[int]) -> None:
        for descriptor in mine:
            os.fstat(descriptor)
        with pytest.raises(UsageError, match=FOREIGN):
            store.length("q")

    def child() -> None:
        # They get the numbers that the store's descriptors had.
        mine = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
        assert ended(in_child(lambda: grandchild(mine))) == 0

    assert ended(in_child(child)) == 0
    store.close()


def test_a_child_has_no_descriptor_of_the_store(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.get("q", 0, 3000)

    def child() -> None:
        there = []
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # of the listing itself
                there.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert not [path for path in there if path.startswith(str(tmp_path))], there

    assert ended(in_child(child)) == 0
    with pytest.raises(BlockingIOError), (tmp_path / "LOCK").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    store.close()
