"""Threads, tasks, processes and groups that share work: each message once, none lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from dragoman.errors import UsageError
from dragoman.queue import AsyncQueueStore, QueueStore
from tests.queue.api.test_closing import CLOSED, DURABILITIES
from tests.queue.api.test_forking import ended, in_child
from tests.queue.work.numbered import SMALL, filled


@pytest.mark.parametrize("durability", DURABILITIES)
def test_threads_that_share_work_get_each_message_once(durability: str, tmp_path: Path) -> None:
    count = 4000
    store = QueueStore(tmp_path, durability=durability, **SMALL)
    store.put_many("q", [b"%d" % i for i in range(count)])
    done: list[bytes] = []
    lock = threading.Lock()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            worker = store.workers("q", "g", attempts_max=3, dead_letter="dead")
            while messages := worker.take(50):
                with lock:
                    done.extend(m.body for m in messages)
                assert worker.ack(messages) == len(messages)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sorted(done, key=int) == [b"%d" % i for i in range(count)]
    assert store.committed("q", "g") == count
    store.close()


def poisoned(path: Path, durability: str) -> None:
    """In a child: work until the poison kills it."""
    with QueueStore(path, durability=durability, **SMALL) as store:
        worker = store.workers("q", "g", attempts_max=4, dead_letter="dead")
        while messages := worker.take(10):
            for message in messages:
                if message.body == b"poison":
                    os.kill(os.getpid(), signal.SIGKILL)
                store.put("done", message.body)
                worker.ack(message)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_message_that_kills_its_process_ends_in_the_dead_letters(
    durability: str, tmp_path: Path
) -> None:
    bodies = [b"%d" % i for i in range(30)]
    bodies[13] = b"poison"
    with QueueStore(tmp_path, durability=durability, **SMALL) as store:
        store.put_many("q", bodies)
    deaths = 0
    while code := ended(in_child(lambda: poisoned(tmp_path, durability))):
        assert code == -signal.SIGKILL
        deaths += 1
        assert deaths <= 4
    with QueueStore(tmp_path, durability=durability, **SMALL) as store:
        assert store.get("dead", 0, 9) == [b"poison"]
        # A first attempt may have been counted that was not made.
        assert deaths in (3, 4)
        if durability == "always":
            assert set(store.get("done", 0, 999)) == set(bodies) - {b"poison"}
        assert store.workers("q", "g").take(9) == []
        assert store.committed("q", "g") == 30


def test_many_groups_make_room_for_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.queue.work.workers.GROUPS_MAX", 5)
    store, _ = filled(tmp_path)
    expected: Counter[str] = Counter()
    for turn in range(30):
        group = f"g{turn % 10}"
        worker = store.workers("q", group)
        (message,) = worker.take()
        assert (message.offset, message.attempts) == (expected[group] // 2, 1 + expected[group] % 2)
        if expected[group] % 2:
            worker.ack(message)
        else:
            worker.nack(message)
        expected[group] += 1
    assert len(store._work.known()) == 5
    assert len(store.groups("q")) == 10
    for number in range(5):
        store.workers("q", f"h{number}").take()
    with pytest.raises(Exception, match="5 groups have messages out already"):
        store.workers("q", "one more").take()
    store.close()


def test_tasks_share_work_without_blocking_their_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncQueueStore(QueueStore(tmp_path, **SMALL)) as store:
            await store.put_many("q", [b"%d" % i for i in range(500)])
            done: list[bytes] = []

            async def work() -> None:
                workers = await store.workers("q", "g", attempts_max=3, dead_letter="dead")
                while messages := await workers.take(20):
                    assert await workers.extend(messages) == len(messages)
                    if messages[0].attempts == 1:
                        assert await workers.nack(messages[:1]) == 1
                        messages = messages[1:]
                    done.extend(m.body for m in messages)
                    assert await workers.ack(messages) == len(messages)

            await asyncio.gather(*(work() for _ in range(4)))
            assert sorted(done, key=int) == [b"%d" % i for i in range(500)]
            workers = await store.workers("q", "g", attempts_max=3, dead_letter="dead")
            waiting = asyncio.create_task(workers.take(5, wait_ms=60_000))
            await asyncio.sleep(0.01)
            await store.put("q", b"late")
            assert [m.body for m in await waiting] == [b"late"]
            waiting = asyncio.create_task(workers.take(5, wait_ms=60_000))
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match=CLOSED):
            await waiting
        with pytest.raises(UsageError, match=CLOSED):
            await workers.ack([])
        with pytest.raises(UsageError, match=CLOSED):
            await store.workers("q", "g")

    asyncio.run(main())
