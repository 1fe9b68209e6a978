"""What a user of the store sees: puts, gets, names, sizes, closing and opening again."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.errors import LockedError, StorageError, UsageError
from dragoman.queue import QueueStore
from tests.load_factor import load_factor

SMALL = {"segment_bytes": 1 << 20, "memory_bytes": 32 << 20, "cache_bytes": 1 << 20}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QueueStore]:
    with QueueStore(tmp_path / "store", durability="none", **SMALL) as store:
        yield store


def test_offsets_count_from_zero_in_each_queue(store: QueueStore) -> None:
    assert [store.put("a", b"1"), store.put("b", b"2"), store.put("a", b"3")] == [0, 0, 1]
    assert store.get("a", 0, 10) == [b"1", b"3"]
    assert store.get("b", 0) == [b"2"]
    assert (store.length("a"), store.first_offset("a"), store.length("c")) == (2, 0, 0)
    assert list(store.queues()) == [b"a", b"b"]
    assert "a" in store and "c" not in store


def test_text_and_its_utf8_are_one_name_and_nothing_else_is_folded(store: QueueStore) -> None:
    names = ["caf\u00e9", "cafe\u0301", "/etc/passwd", "..", "a\0b", "a", "x" * 65536]
    for number, name in enumerate(names):
        assert store.put(name, b"%d" % number) == 0
    for number, name in enumerate(names):
        assert store.get(name.encode(), 0, 5) == [b"%d" % number]
    assert set(store.queues()) == {name.encode() for name in names}


@pytest.mark.parametrize(
    "size", [0, 1, 126, 127, 128, 251, 252, 253, 16383, 59_998, 60_001, 70_000]
)
def test_messages_of_every_size_come_back_byte_for_byte(store: QueueStore, size: int) -> None:
    message = random.Random(size).randbytes(size)
    for number in range(5):
        assert store.put("q", message) == number
    assert store.get("q", 0, 10) == [message] * 5


def test_a_message_of_16_mib_is_the_largest(tmp_path: Path) -> None:
    largest = bytes(range(256)) * 65536
    with QueueStore(tmp_path, **SMALL) as store:
        store.put("q", b"before")
        assert store.put("q", largest) == 1
        store.put("q", b"after")
        with pytest.raises(UsageError, match="at most 16777216 bytes"):
            store.put("q", largest + b"!")
        assert store.get("q", 0, 5) == [b"before", largest, b"after"]
    with QueueStore(tmp_path) as store:
        assert store.get("q", 0, 5) == [b"before", largest, b"after"]


@pytest.mark.parametrize("durability", ["none", "interval(5)", "always"])
def test_a_store_that_was_closed_opens_as_it_was(tmp_path: Path, durability: str) -> None:
    rng = random.Random(1)
    model: dict[bytes, list[bytes]] = {}
    for _ in range(3):
        with QueueStore(tmp_path, durability=durability, **SMALL) as store:
            assert store.damage == []
            for name, messages in model.items():
                assert store.get(name, 0, len(messages) + 1) == messages
            for _ in range(400):
                name = b"queue %d" % rng.randrange(40)
                message = rng.randbytes(rng.choice([0, 50, 50, 300, 5000]))
                assert store.put(name, message) == len(model.setdefault(name, []))
                model[name].append(message)
    with QueueStore(tmp_path, read_only=True) as store:
        requests = [(name, 3, 7) for name in model]
        assert store.get_many(requests) == [messages[3:10] for messages in model.values()]
        with pytest.raises(UsageError, match="read-only"):
            store.put("q", b"")


def test_blocks_of_the_log_are_read_as_well_as_tails(tmp_path: Path) -> None:
    # A megabyte for 300 queues: most of what is put leaves memory.
    rng = random.Random(2)
    names = [b"a queue with a longer name %d" % i for i in range(300)]
    model = {name: [rng.randbytes(50 + i % 3) for i in range(3000)] for name in names[:20]}
    model |= {name: [rng.randbytes(50) for _ in range(30)] for name in names[20:]}
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        for name, messages in model.items():
            assert store.put_many(name, messages) == list(range(len(messages)))
        for name, messages in model.items():
            assert store.get(name, 0, len(messages)) == messages
        store.sync()
        assert store.statistics().blocks_written > 20
    with QueueStore(tmp_path, **SMALL) as store:
        for _ in range(500):
            name = rng.choice(names)
            at, count = rng.randrange(3000), rng.randrange(40)
            assert store.get(name, at, count) == model[name][at : at + count]


def test_put_many_takes_pairs_one_queue_or_two_lists(store: QueueStore) -> None:
    assert store.put_many([("a", b"1"), ("b", b"2"), ("a", b"3")]) == [0, 0, 1]
    assert store.put_many("a", iter([b"4", b"5"])) == [2, 3]
    assert store.put_many(["b", "c"], [b"6", b"7"]) == [1, 0]
    assert store.put_many([]) == []
    assert store.get("a", 0, 9) == [b"1", b"3", b"4", b"5"]


def test_put_many_puts_nothing_when_one_of_them_is_wrong(store: QueueStore) -> None:
    for wrong in (("q", "text"), ("", b""), (5, b""), "q", ("q", b"", b""), None):
        with pytest.raises(UsageError):
            store.put_many([("q", b"right"), wrong])  # type: ignore[list-item]
    assert store.length("q") == 0


def test_misuse_is_refused_with_a_reason(store: QueueStore) -> None:
    store.put("q", b"m")
    for call, reason in (
        (lambda: store.put("q", "text"), "a message is bytes, not str"),
        (lambda: store.put(5, b""), "str or bytes, not int"),
        (lambda: store.put("", b""), "1 to 65536 bytes, not 0"),
        (lambda: store.put("x" * 65537, b""), "not 65537"),
        (lambda: store.put("\ud800", b""), "surrogate"),
        (lambda: store.get("q", -1), "must not be negative"),
        (lambda: store.get("q", 0, -1), "must not be negative"),
        (lambda: store.get("q", "0"), "whole numbers"),
        (lambda: store.get("q", 2**64), "whole numbers"),
        (lambda: store.get_many([("q", 0)]), "a request is"),
        (lambda: QueueStore("x", durability="sometimes"), "durability is"),
        (lambda: QueueStore("x", segment_bytes=1000), "power of two"),
    ):
        with pytest.raises(UsageError, match=reason):
            call()
    assert store.get("q", 1, 5) == store.get("q", 99, 5) == store.get("nobody", 0, 5) == []


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = QueueStore(tmp_path)
    store.put("q", b"m")
    store.close()
    store.close()
    for call in (lambda: store.put("q", b""), lambda: store.get("q", 0), store.sync):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_a_second_writer_is_told_at_once(tmp_path: Path) -> None:
    with QueueStore(tmp_path):
        started = time.monotonic()
        with pytest.raises(LockedError, match="open for writing"):
            QueueStore(tmp_path)
        assert time.monotonic() - started < 0.1 * load_factor()
        code = (
            "import sys; from dragoman.errors import LockedError\n"
            "from dragoman.queue import QueueStore\n"
            "try: QueueStore(sys.argv[1])\n"
            "except LockedError: sys.exit(7)"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        assert subprocess.run(command, check=False).returncode == 7
        QueueStore(tmp_path, read_only=True).close()


def test_threads_may_put_and_get_at_the_same_time(store: QueueStore) -> None:
    names = [f"q{i}" for i in range(50)]
    wrong: list[object] = []

    def put(thread: int) -> None:
        for number in range(400):
            if number % 3:
                store.put(names[number % 50], b"%d %d" % (thread, number))
            else:
                store.put_many([(names[number % 50], b"%d %d" % (thread, number))])

    def get() -> None:
        for number in range(300):
            length = store.length(names[number % 50])
            got = store.get(names[number % 50], 0, length)
            if len(got) != length:
                wrong.append((number, length, len(got)))

    threads = [threading.Thread(target=put, args=(i,)) for i in range(4)]
    threads += [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for number, name in enumerate(names):
        got = [tuple(map(int, m.split())) for m in store.get(name, 0, 10_000)]
        for thread in range(4):
            mine = [n for t, n in got if t == thread]
            assert mine == list(range(number, 400, 50))


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StorageError):
        QueueStore(file)
    with pytest.raises(UsageError, match="no queue store here"):
        QueueStore(tmp_path / "none", create=False)
    with pytest.raises(UsageError, match="no queue store here"):
        QueueStore(tmp_path / "none", read_only=True)


def test_memory_that_tails_do_not_need_any_more_goes_back(tmp_path: Path) -> None:
    queues = [f"q{n}" for n in range(3000)]
    with QueueStore(
        tmp_path, durability="none", memory_bytes=100_000_000, cache_bytes=1 << 16
    ) as store:
        for number in range(36):
            store.put_many(queues, [b"%01000d" % number] * 3000)
            store._flush_log()
        high = store._tail_memory()
        # Other queues, whose names take most of the memory.
        for first in range(0, 1000, 100):
            names = [(b"%d " % n).ljust(60_000, b"n") for n in range(first, first + 100)]
            store.put_many(names, [bytes(60_001)] * 100)  # blocks at once, without tails
            store._flush_log()
        for number in range(36, 200):
            store.put_many(queues, [b"%01000d" % number] * 3000)
            store._flush_log()
        assert store._tail_memory() < high * 3 // 4
        for queue in queues[::100]:
            assert store.get(queue, 0, 200) == [b"%01000d" % number for number in range(200)]
