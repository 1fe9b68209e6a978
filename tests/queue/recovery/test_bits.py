"""Every bit of a small store flipped, every file cut at every byte: reported or harmless.

Each state is opened once, in this process. That is a millisecond where files are in memory, so the
stores lie in ``/dev/shm`` where there is one; what an opening reads from a disk is no different.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.errors import DragomanError
from dragoman.queue import QueueStore

SMALL = {"a": 160, "b": 60, "c": 7}
# With these the segments hold 64 KiB.
LARGE = {"a": 1200, "b": 600, "c": 12}
# Messages of a block, of those that were put at once.
BLOCK = 100
OPEN = {"memory_bytes": 1 << 20, "cache_bytes": 0, "read_only": True}


@functools.cache
def message(name: str, offset: int) -> bytes:
    return random.Random(f"{name}{offset}").randbytes(30 + offset % 5)


def filled(path: Path, lengths: dict[str, int]) -> None:
    """A closed store of which every kind of file holds something."""
    with QueueStore(path, durability="none", segment_bytes=1 << 16, memory_bytes=1 << 20) as store:
        for part in range(2):
            for name, length in lengths.items():
                half = range(part * length // 2, (part + 1) * length // 2)
                for start in range(half.start, half.stop, BLOCK):
                    some = range(start, min(start + BLOCK, half.stop))
                    store.put_many(name, [message(name, i) for i in some])
                    if part == 0 or len(half) > 200:
                        store._detach_tails()
        store.commit("a", "group", 5)
        store.trim("b", 3)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory in memory, or at least in the system's place for temporary files."""
    shared = Path("/dev/shm")
    root = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dragoman-bits-", dir=root) as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def _silent(caplog: pytest.LogCaptureFixture) -> None:
    # Each opening says what it found; kept for a million of them that would be a gigabyte.
    caplog.set_level(logging.CRITICAL + 1, "dragoman.queue.api.store")


def outcome(path: Path, lengths: dict[str, int]) -> str:
    """``reported``, or ``harmless``: all is there and right. Wrong data is an assertion's."""
    reported = False
    try:
        with QueueStore(path, **OPEN) as store:  # type: ignore[arg-type]
            reported = bool(store.damage)
            right = True
            for name, length in lengths.items():
                first, end = store.first_offset(name), store.length(name)
                if end != length or first != 3 * (name == "b"):
                    right = False
                reported = not right_or_refused(store, name, first, end) or reported
            right = right and store.committed("a", "group") == 5
            reported = reported or (not right and bool(store.verify()))
            assert reported or right, "something is missing, and nobody says so"
    except DragomanError:
        return "reported"
    return "reported" if reported else "harmless"


def right_or_refused(store: QueueStore, name: str, first: int, end: int) -> bool:
    """Whether nothing is refused; what is given is right."""
    right = True
    # A block at a time: several at once are read asynchronously, of which closing takes long.
    for start in range(first - first % BLOCK, end, BLOCK):
        block = range(max(first, start), min(start + BLOCK, end))
        try:
            got = store.get(name, block.start, len(block))
            assert got == [message(name, at) for at in block]
        except DragomanError:
            right = False
            for at in block:
                with contextlib.suppress(DragomanError):
                    assert store.get(name, at) == [message(name, at)]
    return right


def flip(
    path: Path, lengths: dict[str, int], name: str, content: bytes, bits: range
) -> dict[str, int]:
    counts = {"reported": 0, "harmless": 0}
    with (path / name).open("r+b", buffering=0) as file:
        for bit in bits:
            for byte in (content[bit // 8] ^ 1 << bit % 8, content[bit // 8]):
                os.pwrite(file.fileno(), bytes([byte]), bit // 8)
                if byte != content[bit // 8]:
                    counts[outcome(path, lengths)] += 1
    assert (path / name).read_bytes() == content
    return counts


def cut(
    path: Path, lengths: dict[str, int], name: str, content: bytes, ends: range
) -> dict[str, int]:
    counts = {"reported": 0, "harmless": 0}
    for end in ends:
        (path / name).write_bytes(content[:end])
        counts[outcome(path, lengths)] += 1
    (path / name).write_bytes(content)
    return counts


def every_file(path: Path, lengths: dict[str, int], step_bits: int, step_bytes: int) -> None:
    for name in sorted(os.listdir(path)):
        if name == "LOCK":
            continue
        content = (path / name).read_bytes()
        step = min(step_bits, 7) if len(content) < 1000 else step_bits
        flipped = flip(path, lengths, name, content, range(0, len(content) * 8, step))
        shorter = cut(path, lengths, name, content, range(0, len(content), min(step_bytes, step)))
        print(f"{name}: {len(content)} bytes, flipped {flipped}, cut {shorter}", flush=True)
        assert flipped["reported"] and shorter["reported"]


def test_flipped_bits_and_cuts_are_reported_or_harmless(memory_path: Path) -> None:
    filled(memory_path / "store", SMALL)
    every_file(memory_path / "store", SMALL, 1009, 509)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_bit_flipped_and_every_cut_is_reported_or_harmless(memory_path: Path) -> None:
    filled(memory_path / "store", SMALL)
    every_file(memory_path / "store", SMALL, 1, 1)


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_every_bit_of_a_log_of_64_kib_is_reported_or_harmless(memory_path: Path) -> None:
    path = memory_path / "store"
    filled(path, LARGE)
    segments = sorted(path.glob("*.seg"))
    whole = sum(file.stat().st_size for file in segments)
    assert whole >= 1 << 16
    counts = {"reported": 0, "harmless": 0}
    for file in segments:
        content = file.read_bytes()
        found = flip(path, LARGE, file.name, content, range(len(content) * 8))
        print(f"{file.name}: {len(content)} bytes, flipped {found}", flush=True)
        counts = {kind: counts[kind] + found[kind] for kind in counts}
    # Zeros that fill up the segment, and what a directory that is right makes superfluous.
    assert counts["reported"] > 6 * whole
