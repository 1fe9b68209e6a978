"""Messages that memory has, in tails or in the cache of blocks: from any place to any other."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.queue import QueueStore

# Records end within a chunk of 252 bytes, at its end, and over several; their length has one byte
# or two.
SIZES = [*range(81), 100, 125, 126, 127, 128, 129, 249, 250, 251, 252, 253, 503, 504, 505, 4000]


def lengths_of_one(size: int) -> list[int]:
    return [size] * 40


def one_that_is_longer(size: int) -> list[int]:
    return [size] * 39 + [size + 1]


def one_that_is_longer_first(size: int) -> list[int]:
    return [size + 1] + [size] * 39


@pytest.mark.parametrize("lengths", [lengths_of_one, one_that_is_longer, one_that_is_longer_first])
def test_every_range_of_a_tail_is_what_was_put(
    tmp_path: Path, lengths: Callable[[int], list[int]]
) -> None:
    rng = random.Random(7)
    with QueueStore(tmp_path / "s", durability="none", memory_bytes=1 << 26) as store:
        for size in SIZES:
            name = b"%d" % size
            put = [rng.randbytes(length) for length in lengths(size)]
            store.put_many(name, put)
            ranges = [(at, count) for at in range(len(put)) for count in (1, 2, 3, 10, 40)]
            got = store.get_many([(name, at, count) for at, count in ranges])
            assert got == [put[at : at + count] for at, count in ranges]
        assert store.statistics().blocks_written == 0


@pytest.mark.parametrize("mixed", [False, True])
def test_tails_and_blocks_of_one_queue_join_without_a_seam(tmp_path: Path, mixed: bool) -> None:
    # So little memory that blocks are written, wait, are read from the disk and from the cache.
    rng = random.Random(8)
    names = [b"%d" % number for number in range(40)]
    put: dict[bytes, list[bytes]] = {name: [] for name in names}
    with QueueStore(tmp_path / "s", durability="none", memory_bytes=1 << 22) as store:
        for _ in range(60):
            for name in names:
                lengths = [rng.randrange(300) if mixed else 120 for _ in range(rng.randrange(80))]
                made = [rng.randbytes(length) for length in lengths]
                store.put_many(name, made)
                put[name] += made
            places = [(rng.choice(names), rng.randrange(2500)) for _ in range(60)]
            requests = [(name, at, rng.choice((1, 9, 200))) for name, at in places]
            got = store.get_many(requests)
            assert got == [put[name][at : at + count] for name, at, count in requests]
            assert store.get_many([(name, 0, 9999) for name in names[:2]]) == [
                put[name] for name in names[:2]
            ]
            assert store.get_many([(b"nobody", 0, 9), (names[0], len(put[names[0]]), 9)]) == [
                [],
                [],
            ]
        assert store.statistics().blocks_written > 0


def test_a_block_that_is_read_to_its_end_is_not_read_again(tmp_path: Path) -> None:
    # A range at random may be wanted again; one that goes on where the last one ended may not.
    names = [b"%d" % number for number in range(200)]
    with QueueStore(tmp_path / "s", durability="none", memory_bytes=1 << 24) as store:
        for number in range(4000):
            store.put_many(names, [b"%050d" % number] * len(names))
        store.sync()
        ranges = [(name, 100, 1000) for name in names[:20]]
        first = store.get_many(ranges)
        read = store.statistics().blocks_read
        assert store.get_many(ranges) == first
        assert store.statistics().blocks_read == read > 0
