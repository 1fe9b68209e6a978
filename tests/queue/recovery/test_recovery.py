"""kill -9, power loss, failing disks, flipped bits: what was acknowledged is there, what is
damaged is named."""

from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dragoman.errors import CorruptionError, DragomanError, StorageError, UsageError
from dragoman.queue import QueueStore
from tests.queue.faults import FaultyFiles, Machine, PowerLoss

SMALL = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20, "cache_bytes": 1 << 16}


@functools.lru_cache(maxsize=300_000)
def message(queue: int, offset: int) -> bytes:
    """What belongs there: its length varies, its bytes tell where it belongs."""
    head = b"%d:%d:" % (queue, offset)
    return head + random.Random(queue * 1_000_003 + offset).randbytes(40 + (queue + offset) % 30)


WRITER = """
import sys, random
sys.path.insert(0, ".")
from tests.queue.recovery.test_recovery import SMALL, message
from dragoman.queue import QueueStore
from dragoman.queue.api import background
from dragoman.queue.api import store as module
module.META_DEAD_BYTES = 3000
background.COMPACTION_S = background.UPKEEP_S = 0.01
store = QueueStore(sys.argv[1], durability=sys.argv[2], compact_below=0.7, **SMALL)
rng = random.Random(int(sys.argv[3]))
while True:
    queue = rng.randrange(30)
    name = "q%d" % queue
    offset = store.length(name)
    if rng.random() < 0.2:
        count = rng.randrange(1, 60)
        store.put_many(name, [message(queue, offset + i) for i in range(count)])
        offset += count - 1
    else:
        store.put(name, message(queue, offset))
    if rng.random() < 0.002 and sys.argv[2] == "none":
        store.sync()
        print("sync", flush=True)
    print("put", queue, offset + 1, flush=True)
    if rng.random() < 0.1 and queue % 5:
        before = max(0, offset - rng.randrange(150))
        print("trim", queue, before, flush=True)
        store.trim(name, before)
    if rng.random() < 0.003:
        store._detach_tails()
    if rng.random() < 0.1:
        store.commit(name, "group", offset)
        print("commit", queue, offset, flush=True)
    if rng.random() < 0.002:
        now = store.statistics()
        print("did", now.compactions, now.meta_rewrites, flush=True)
"""


@dataclass
class Told:
    """What a writer had been told: by queue the length, the last trim asked for, the commit."""

    put: dict[int, int] = field(default_factory=dict)
    trim: dict[int, int] = field(default_factory=dict)
    commit: dict[int, int] = field(default_factory=dict)
    compactions: int = 0
    rewrites: int = 0

    def copy(self) -> Told:
        return Told(dict(self.put), dict(self.trim), dict(self.commit))


def killed_cycle(path: Path, durability: str, seed: int, after_s: float) -> Told:
    """Let a process put until it is killed; what it had been told."""
    command = [sys.executable, "-c", WRITER, str(path), durability, str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    lines = [first, *process.stdout.read().splitlines(keepends=True)]
    process.stdout.close()
    process.wait()
    told = Told()
    durable = Told()
    did = (0, 0)
    for line in lines:
        if not line.endswith("\n"):
            continue
        kind, *numbers = line.split()
        if kind == "sync":
            durable = told.copy()
        elif kind == "did":
            did = (int(numbers[0]), int(numbers[1]))
        else:
            queue, value = map(int, numbers)
            if kind == "trim":
                value = max(value, told.trim.get(queue, 0))
            getattr(told, kind)[queue] = value
    result = durable if durability == "none" else told
    result.trim = told.trim
    result.compactions, result.rewrites = did
    return result


def check_store(
    path: Path, told: Told | dict[int, int], durability: str = "always"
) -> dict[int, int]:
    """All that was told is there and right; returns the lengths found."""
    if isinstance(told, dict):
        told = Told(put=told)
    with QueueStore(path, durability=durability, **SMALL) as store:
        assert store.damage == []
        lengths = {}
        for name in store.queues():
            queue = int(name[1:])
            lengths[queue] = store.length(name)
            first = store.first_offset(name)
            assert first <= told.trim.get(queue, 0)
            got = store.get(name, first, lengths[queue])
            assert got == [message(queue, i) for i in range(first, lengths[queue])]
            assert store.committed(name, "group") >= told.commit.get(queue, 0)
        for queue, length in told.put.items():
            assert lengths.get(queue, 0) >= length, f"queue {queue}"
    return lengths


def cycles(tmp_path: Path, count: int) -> None:
    rng = random.Random(7)
    compactions = rewrites = 0
    for durability in ("always", "none"):
        path = tmp_path / durability
        lengths: dict[int, int] = {}
        trims: dict[int, int] = {}
        for number in range(count):
            told = killed_cycle(path, durability, number, rng.uniform(0, 0.3))
            for queue, before in told.trim.items():
                trims[queue] = max(before, trims.get(queue, 0))
            told.trim = trims
            compactions += told.compactions
            rewrites += told.rewrites
            found = check_store(path, told, durability)
            assert all(found[queue] >= length for queue, length in lengths.items())
            lengths = found
    print(f"{2 * count} kills, at least {compactions} compactions, {rewrites} META rewritten")
    assert count < 50 or (compactions and rewrites)


def test_what_was_acknowledged_survives_kill(tmp_path: Path) -> None:
    cycles(tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_was_acknowledged_survives_hundreds_of_kills(tmp_path: Path) -> None:
    cycles(tmp_path, 250)


def live(
    store: QueueStore,
    rng: random.Random,
    told: Told,
    durable: Told,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Up to a hundred things that a user does, or the store by itself, while ``alive``."""
    always = store.durability == "always"
    for _ in range(rng.randrange(1, 120)):
        queue = rng.randrange(8)
        name = f"q{queue}"
        count = rng.randrange(1, 40)
        offset = store.length(name)
        store.put_many(name, [message(queue, offset + i) for i in range(count)])
        told.put[queue] = offset + count
        if always:
            durable.put[queue] = told.put[queue]
        chance = rng.random()
        if chance < 0.3 and queue % 4:
            before = max(0, offset - rng.randrange(100))
            told.trim[queue] = max(before, told.trim.get(queue, 0))
            store.trim(name, before)
        elif chance < 0.4:
            store.commit(name, "group", offset)
            told.commit[queue] = offset
            if always:
                durable.commit[queue] = offset
        elif chance < 0.45:
            state = told.copy()
            store.sync()
            durable.put, durable.commit = state.put, state.commit
        elif chance < 0.53:
            store._detach_tails()
            store._flush_log()
            if chance > 0.5:
                store.compact()
        elif chance < 0.55:
            store._renew_meta()
        elif chance < 0.57:
            store.upkeep()
        if not alive():
            break


def lose_power(tmp_path: Path, seed: int) -> tuple[int, int]:
    """One run until the power goes, somewhere; (compactions, rewritings) before that."""
    rng = random.Random(seed)
    root = tmp_path / f"store{seed}"
    after = tmp_path / f"after{seed}"
    told, durable, at_crash = Told(), Told(), Told()
    done = (0, 0)

    def crash(files: PowerLoss) -> None:
        nonlocal at_crash
        with files.lock:
            if not after.exists():
                at_crash = durable.copy()
                at_crash.trim = dict(told.trim)
                files.crash(after, rng)

    files = PowerLoss(root, rng.randrange(20, 300), crash)
    durability = rng.choice(["always", "none", "interval(5)"])
    store = QueueStore(root, durability=durability, files=files, compact_below=0.8, **SMALL)
    live(store, rng, told, durable, lambda: not after.exists())
    statistics = store.statistics()
    done = (statistics.compactions, statistics.meta_rewrites)
    crash(files)
    files.at = 0
    store.close()
    lengths = check_store(after, at_crash)
    for queue, length in lengths.items():
        assert length <= told.put[queue]
    # Recovery may itself be followed by another opening.
    again = Told(put=lengths, trim=at_crash.trim)
    assert check_store(after, again) == lengths
    shutil.rmtree(root)
    shutil.rmtree(after)
    return done


def lose_power_often(tmp_path: Path, seeds: range) -> None:
    results = [lose_power(tmp_path, seed) for seed in seeds]
    compactions = sum(compactions for compactions, _ in results)
    rewrites = sum(rewrites for _, rewrites in results)
    print(f"{len(seeds)} losses, {compactions} compactions, {rewrites} META rewritten")
    assert len(seeds) < 20 or (compactions and rewrites)


def test_what_was_synced_survives_the_loss_of_power(tmp_path: Path) -> None:
    lose_power_often(tmp_path, range(40))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_what_was_synced_survives_thousands_of_losses_of_power(tmp_path: Path) -> None:
    lose_power_often(tmp_path, range(1000, 6000))


def filled(path: Path) -> None:
    """A closed store with several segments and a journal."""
    with QueueStore(path, durability="none", **SMALL) as store:
        for queue in range(6):
            store.put_many(f"q{queue}", [message(queue, i) for i in range(3000)])
        store.sync()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "store"
    filled(path)
    return path


def read_all(store: QueueStore) -> list[str]:
    """Every message is right or refused; what the refusals said."""
    refused = []
    for queue in range(6):
        name = f"q{queue}"
        at, end = 0, store.length(name)
        while at < end:
            try:
                got = store.get(name, at, 20)
                assert got == [message(queue, at + i) for i in range(len(got))]
            except CorruptionError as error:
                assert name in str(error)
                refused.append(str(error))
            at += 20
    return refused


def test_a_flipped_bit_anywhere_is_never_returned(full: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    names = [name for name in sorted(os.listdir(full)) if name != "LOCK"]
    for number in range(36):
        path = tmp_path / str(number)
        shutil.copytree(full, path)
        name = names[number % len(names)]
        content = bytearray((path / name).read_bytes())
        bit = rng.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(content)
        try:
            with QueueStore(path, read_only=True) as store:
                refused = read_all(store)
                if name.endswith(".seg") and refused:
                    assert any(".seg" in text for text in refused)
        except (CorruptionError, UsageError) as error:
            assert name in str(error) or "version" in str(error)
        shutil.rmtree(path)


def test_damage_in_one_block_is_named_and_the_rest_is_served(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    wanted = message(2, 40)[:20]
    file = next(file for file in sorted(path.glob("*.seg")) if wanted in file.read_bytes())
    content = bytearray(file.read_bytes())
    at = content.index(wanted)
    content[at] ^= 1
    file.write_bytes(content)
    with QueueStore(path, **SMALL) as store:
        with pytest.raises(CorruptionError, match=rf"queue 'q2'.*{file.name} at \d+") as caught:
            store.get("q2", 40)
        assert "offsets" in str(caught.value)
        assert len(read_all(store)) > 0
        assert store.get("q3", 0, 5) == [message(3, i) for i in range(5)]
        assert [d.queue for d in store.verify()] == [b"q2"]
        assert store.put("q2", b"more") == 3000


@pytest.mark.parametrize("name", ["STORE", "META"])
def test_a_missing_file_that_all_depends_on_is_named(full: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    (path / name).unlink()
    with pytest.raises(CorruptionError, match=f"{name} is missing"):
        QueueStore(path)


def test_a_missing_segment_is_reported_and_the_rest_is_served(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    (path / "0000000002.seg").unlink()
    with QueueStore(path, **SMALL) as store:
        assert any(damage.file == "0000000002.seg" for damage in store.damage)
        assert read_all(store)
        assert store.get("q5", 2990, 10) == [message(5, i) for i in range(2990, 3000)]


def test_a_truncated_segment_is_reported_and_the_rest_is_served(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    os.truncate(path / "0000000001.seg", 20_000)
    with QueueStore(path, **SMALL) as store:
        assert any(damage.file == "0000000001.seg" for damage in store.damage)
        assert read_all(store)


def test_a_newer_version_is_refused(full: Path, tmp_path: Path) -> None:
    import struct

    from dragoman.queue.disk.crc import crc32c

    path = tmp_path / "store"
    shutil.copytree(full, path)
    content = bytearray((path / "STORE").read_bytes())
    content[8] = 2
    content[60:] = struct.pack("<I", crc32c(content[:60]))
    (path / "STORE").write_bytes(content)
    with pytest.raises(UsageError, match="version 2"):
        QueueStore(path)


def test_after_a_failed_sync_nothing_is_acknowledged(tmp_path: Path) -> None:
    files = FaultyFiles()
    store = QueueStore(tmp_path, durability="always", files=files, **SMALL)
    store.put("q", b"good")
    files.fail("sync", 1)
    for _ in range(3):
        with pytest.raises(StorageError, match="sync has failed"):
            store.put("q", b"bad")
    with pytest.raises(StorageError):
        store.sync()
    assert store.statistics().poisoned
    assert store.get("q", 0, 1) == [b"good"]
    with pytest.raises(StorageError):
        store.close()
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.get("q", 0, 1) == [b"good"]


@pytest.mark.parametrize("durability", ["always", "none"])
def test_a_full_disk_is_an_error_and_puts_go_on_when_there_is_space(
    tmp_path: Path, durability: str
) -> None:
    files = FaultyFiles()
    with QueueStore(tmp_path, durability=durability, files=files, **SMALL) as store:
        store.put("q", b"before")
        files.sticky["write"] = errno.ENOSPC
        with pytest.raises(StorageError, match="No space left") as caught:
            if durability == "always":
                store.put("q", b"during")
            else:
                store.sync()
        assert caught.value.errno == errno.ENOSPC
        del files.sticky["write"]
        deadline = time.monotonic() + 5
        while True:
            try:
                store.put("q", b"after")
                store.sync()
                break
            except StorageError:
                assert time.monotonic() < deadline
    with QueueStore(tmp_path, **SMALL) as store:
        messages = store.get("q", 0, 100)
        assert messages[0] == b"before" and messages[-1] == b"after"


def test_short_writes_are_completed(tmp_path: Path) -> None:
    files = FaultyFiles()
    files.short_writes = True
    with QueueStore(tmp_path, durability="always", files=files, **SMALL) as store:
        for queue in range(3):
            store.put_many(f"q{queue}", [message(queue, i) for i in range(2000)])
    check_store(tmp_path, {0: 2000, 1: 2000, 2: 2000})


def test_a_failed_read_is_an_error_and_the_next_is_not(tmp_path: Path) -> None:
    files = FaultyFiles()
    filled(tmp_path)
    with QueueStore(tmp_path, files=files, **SMALL) as store:
        files.fail("read", 1)
        with pytest.raises(StorageError, match="Input/output error"):
            store.get("q0", 0)
        assert store.get("q0", 0) == [message(0, 0)]


@pytest.mark.parametrize("kind", ["write", "sync", "open", "sync_directory"])
def test_every_nth_call_may_fail_and_nothing_acknowledged_is_lost(
    tmp_path: Path, kind: str
) -> None:
    for number in range(1, 14):
        path = tmp_path / f"{kind}{number}"
        files = FaultyFiles()
        files.fail(kind, number)
        told: dict[int, int] = {}
        try:
            with QueueStore(path, durability="always", files=files, **SMALL) as store:
                for round_ in range(6):
                    for queue in range(3):
                        start = store.length(f"q{queue}")
                        new = [message(queue, start + i) for i in range(150)]
                        store.put_many(f"q{queue}", new)
                        told[queue] = start + 150
                    assert round_ >= 0
        except DragomanError:
            pass
        check_store(path, told)


def test_a_directory_that_cannot_be_written_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path)
    before = {name: (path / name).read_bytes() for name in os.listdir(path)}
    code = (
        "import os, sys\n"
        "from dragoman.errors import StorageError\n"
        "from dragoman.queue import QueueStore\n"
        "os.setuid(65534)\n"
        "try: QueueStore(sys.argv[1])\n"
        "except StorageError as error: print(error); sys.exit(7)"
    )
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    os.chmod(path, 0o555)
    if os.getuid() == 0:
        result = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
        assert result.returncode == 7
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == before


def test_the_end_of_a_torn_write_proves_nothing_for_its_beginning(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        for part in range(8):
            store.put_many("q0", [message(0, part * 50 + i) for i in range(50)])
            store._detach_tails()
    # Nothing says that the segment had been synced, whose directory and trailer are there.
    for file in tmp_path.glob("*.jnl"):
        file.unlink()
    meta = (tmp_path / "META").read_bytes()
    (tmp_path / "META").write_bytes(meta[:-25])
    segment = tmp_path / "0000000001.seg"
    content = bytearray(segment.read_bytes())
    content[12288:12800] = bytes(512)
    segment.write_bytes(content)
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == [] and store.verify() == []
        length = store.length("q0")
        assert 0 < length < 400
        assert store.get("q0", 0, 400) == [message(0, i) for i in range(length)]
    assert check_store(tmp_path, {0: length}) == {0: length}


def test_a_damaged_frame_is_damage_when_any_later_one_knows_that_it_was_synced(
    tmp_path: Path,
) -> None:
    # Several frames without a sync between them, then a sync, then a frame that knows of it.
    machine = Machine(tmp_path, random.Random(1))
    store = QueueStore(tmp_path, durability="interval(60000)", files=machine)
    frames = []
    for part in range(3):
        store.put_many("q0", [message(0, part * 30_000 + i) for i in range(30_000)])
        deadline = time.monotonic() + 60
        while store.statistics().journal_written == sum(frames):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        frames.append(store.statistics().journal_written - sum(frames))
    store.sync()
    store.put("q0", message(0, 90_000))
    store.sync()
    with machine.lock:
        machine.dead = True
    with pytest.raises(StorageError):
        store.close()
    journal = tmp_path / "0000000001.jnl"
    content = bytearray(journal.read_bytes())
    content[4096 + frames[0] + 200] ^= 1
    journal.write_bytes(content)
    with QueueStore(tmp_path, read_only=True) as store:
        assert any("frame" in damage.reason for damage in store.damage)
        assert store.length("q0") == 90_001
        assert store.get("q0", 90_000) == [message(0, 90_000)]


def test_a_group_is_never_ahead_of_its_queue_after_a_loss_of_power(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "before", random.Random(1))
    store = QueueStore(tmp_path / "before", durability="none", files=machine, **SMALL)
    store.put_many("q0", [message(0, i) for i in range(10)])
    store.sync()
    store.put_many("q0", [b"lost"] * 10)
    store.commit("q0", "group", 20)
    store._sync_meta(True)
    with machine.lock:
        machine.dead = True
    with pytest.raises(StorageError):
        store.close()
    machine.crash(tmp_path / "after", random.Random(1))
    path = tmp_path / "after"
    with QueueStore(path, read_only=True, **SMALL) as store:
        assert (store.length("q0"), store.committed("q0", "group")) == (10, 10)
    with QueueStore(path, **SMALL) as store:
        assert store.committed("q0", "group") == 10
        store.put_many("q0", [message(0, i) for i in range(10, 30)])
    with QueueStore(path, **SMALL) as store:
        assert store.committed("q0", "group") == 10
        read = store.consumer("q0", "group").read(100)
        assert read == [message(0, i) for i in range(10, 30)]
