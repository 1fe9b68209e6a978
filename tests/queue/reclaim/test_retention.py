"""What goes and what comes back: trims, deletions, retention, journal files, consumers, asyncio."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dragoman.errors import UsageError
from dragoman.queue import AsyncQueueStore, QueueStore
from tests.queue.faults import FaultyFiles

SMALL = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20, "cache_bytes": 1 << 16}


def bytes_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.seg"))


def fill(store: QueueStore, rounds: int) -> None:
    for number in range(rounds):
        store.put_many(
            "old", [b"%06d" % i + bytes(94) for i in range(number * 1000, (number + 1) * 1000)]
        )


def test_trimmed_messages_are_gone_for_good(tmp_path: Path) -> None:
    with QueueStore(tmp_path, **SMALL) as store:
        store.put_many("q", [b"%d" % i for i in range(100)])
        store.trim("q", 40)
        store.trim("q", 30)
        assert store.first_offset("q") == 40
        with pytest.raises(UsageError, match="offset 39 is gone: the first of the queue is 40"):
            store.get("q", 39)
        store.trim("nobody", 5)
        with pytest.raises(UsageError):
            store.trim("q", -1)
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.first_offset("q") == 40
        assert store.get("q", 40, 2) == [b"40", b"41"]
        store.trim("q", 10**9)
        assert store.put("q", b"next") == 100
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.get("q", 100, 9) == [b"next"]


def test_a_deleted_queue_begins_again(tmp_path: Path) -> None:
    with QueueStore(tmp_path, **SMALL) as store:
        store.put_many("q", [bytes(100)] * 3000)
        store.commit("q", "g", 5)
        assert store.delete("q") and not store.delete("q")
        assert store.get("q", 0, 5) == [] and list(store.queues()) == []
        assert store.put("q", b"new") == 0
        assert store.committed("q", "g") == 0
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.get("q", 0, 5) == [b"new"] and store.damage == []


def test_space_comes_back_when_all_of_a_segment_is_trimmed(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        fill(store, 10)
        store.sync()
        before = bytes_on_disk(tmp_path)
        store.trim("old", 9000)
        store.sync()
        assert store.upkeep() > 0 or bytes_on_disk(tmp_path) < before
        assert bytes_on_disk(tmp_path) < before / 2
        assert store.get("old", 9000)[0][:6] == b"009000"
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == []
        assert store.get("old", 9999)[0][:6] == b"009999"


def test_giving_space_back_ends_although_more_dies_meanwhile(tmp_path: Path) -> None:
    class Trimming(FaultyFiles):
        """For each segment that goes two more die."""

        def unlink(self, name: str) -> None:
            super().unlink(name)
            if name.endswith(".seg") and self.calls["unlink"] < 300:
                store.put_many("q", [bytes(1000)] * 130)
                store._flush_log()
                store.trim("q", store.length("q"))

    files = Trimming()
    with QueueStore(tmp_path, durability="none", files=files, **SMALL) as store:
        store._ended.set()  # nothing in the background
        store.put_many("q", [bytes(1000)] * 6000)
        store._flush_log()
        store.trim("q", store.length("q"))
        before = len(list(tmp_path.glob("*.seg")))
        assert before > 80
        files.calls.clear()
        assert store.upkeep() > 0
        # One in use, and what was there: some in slots that came free meanwhile.
        assert before - 1 <= files.calls["unlink"] <= before + 10
        files.calls = {"unlink": 300}
        assert store.upkeep() > 0
        assert files.calls["unlink"] > 350
        assert files.calls["sync_directory"] <= 4, "many go with one sync"
        assert store.get("q", store.length("q"), 1) == []
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == [] and store.first_offset("q") == store.length("q") > 6000


def test_the_log_stays_within_its_bytes(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", retention_bytes=300_000, **SMALL) as store:
        for _ in range(5):
            fill(store, 4)
            store.sync()
            store.upkeep()
            assert bytes_on_disk(tmp_path) <= 300_000 + 2 * 65536
        first = store.first_offset("old")
        assert 0 < first < store.length("old")
        assert store.get("old", first, 1)
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == [] and store.first_offset("old") == first


def test_old_segments_go(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", retention_s=0.01, **SMALL) as store:
        fill(store, 5)
        store.sync()
        time.sleep(2.1)
        store.upkeep()
        assert store.first_offset("old") > 0


def test_queues_keep_no_more_than_their_messages(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", retention_messages=1500, **SMALL) as store:
        fill(store, 5)
        store.sync()
        store.upkeep()
        kept = store.length("old") - store.first_offset("old")
        assert 1500 <= kept < 1500 + 1000


def test_the_journal_stays_within_its_bytes(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="interval(1)", journal_bytes=4 << 20, **SMALL) as store:
        store.put("idle", b"kept alive by the oldest journal file")
        for _ in range(40):
            store.put_many("busy", [os.urandom(1000)] * 500)
            store.sync()
        store.upkeep()
        assert sum(f.stat().st_size for f in tmp_path.glob("*.jnl")) < 8 << 20
        assert not (tmp_path / "0000000001.jnl").exists()
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.get("idle", 0) == [b"kept alive by the oldest journal file"]
        assert store.length("busy") == 20_000 and store.damage == []


def journal_bytes(path: Path) -> int:
    total = 0
    for file in path.glob("*.jnl"):
        with suppress(FileNotFoundError):  # it may go meanwhile
            total += file.stat().st_size
    return total


def test_puts_wait_rather_than_let_the_journal_outgrow_its_bytes(tmp_path: Path) -> None:
    bound = 2 << 20
    with QueueStore(tmp_path, durability="interval(1)", journal_bytes=bound, **SMALL) as store:
        most = 0
        for number in range(300):
            # Tails of many queues keep all of the journal needed.
            store.put_many([f"q{n}" for n in range(500)], [b"%0100d" % number] * 500)
            most = max(most, journal_bytes(tmp_path))
        assert store.statistics().journal_written > 4 * bound
        assert most <= bound
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == []
        assert store.get("q77", 0, 300) == [b"%0100d" % number for number in range(300)]


def test_a_store_closes_without_a_warning_while_its_journal_is_collected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        path = tmp_path / f"s{number}"
        with QueueStore(path, durability="interval(1)", journal_bytes=1 << 20, **SMALL) as store:
            for _ in range(10 + number):
                store.put_many([f"q{n}" for n in range(300)], [os.urandom(300)] * 300)
    assert [record.message for record in caplog.records] == []


def test_a_tail_that_was_moved_in_the_journal_is_whole_after_a_crash(tmp_path: Path) -> None:
    path, after = tmp_path / "store", tmp_path / "after"
    with QueueStore(path, durability="interval(1)", journal_bytes=4 << 20, **SMALL) as store:
        for number in range(60):
            # Its first messages are in files that go, the later ones in files that stay.
            store.put("slow", b"%d" % number)
            store.put_many("busy", [os.urandom(1000)] * 200)
            store.sync()
            if number % 5 == 4:
                store.upkeep()
        assert not (path / "0000000001.jnl").exists()
        shutil.copytree(path, after)
    with QueueStore(after, **SMALL) as store:
        assert store.damage == []
        assert store.get("slow", 0, 99) == [b"%d" % number for number in range(60)]
        assert store.length("busy") == 12_000


def test_a_group_goes_on_where_it_committed(tmp_path: Path) -> None:
    with QueueStore(tmp_path, **SMALL) as store:
        store.put_many("q", [b"%d" % i for i in range(20)])
        consumer = store.consumer("q", "group")
        assert consumer.read(7) == [b"%d" % i for i in range(7)]
        consumer.commit()
        consumer.read(3)
        assert store.consumer("q", "group").read() == [b"7"]
        assert store.consumer("q", "other").read() == [b"0"]
        with pytest.raises(UsageError, match="a position is 0 to 20"):
            store.commit("q", "group", 21)
    with QueueStore(tmp_path, read_only=True) as store:
        assert store.groups("q") == {b"group": 7}
        assert store.consumer("q", "group").read(99) == [b"%d" % i for i in range(7, 20)]


def test_asyncio_callers_share_calls_and_keep_their_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncQueueStore(QueueStore(tmp_path, durability="always", **SMALL)) as store:
            offsets = await asyncio.gather(*(store.put("q", b"%d" % i) for i in range(500)))
            assert offsets == list(range(500))
            got = await asyncio.gather(*(store.get("q", i, 2) for i in range(499)))
            assert got == [[b"%d" % i, b"%d" % (i + 1)] for i in range(499)]
            results = await asyncio.gather(
                store.put("q", b"good"), store.put("", b"bad"), return_exceptions=True
            )
            assert results[0] == 500 and isinstance(results[1], UsageError)
            assert (await store.statistics()).syncs < 200
            assert await store.delete("q")

    asyncio.run(main())
