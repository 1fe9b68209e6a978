"""Every bit of a small store flipped, every file cut at every byte: reported or harmless."""

from __future__ import annotations

import functools
import os
import random
import shutil
from pathlib import Path

import pytest

from dragoman.errors import DragomanError
from dragoman.queue import QueueStore

LENGTHS = {"a": 160, "b": 60, "c": 7}
OPEN = {"memory_bytes": 1 << 20, "cache_bytes": 0, "read_only": True}


@functools.lru_cache
def message(name: str, offset: int) -> bytes:
    return random.Random(f"{name}{offset}").randbytes(30 + offset % 5)


def filled(path: Path) -> None:
    """A closed store of which every kind of file holds something."""
    with QueueStore(path, durability="none", segment_bytes=1 << 16, memory_bytes=1 << 20) as store:
        for part in range(2):
            for name, length in LENGTHS.items():
                half = range(part * length // 2, (part + 1) * length // 2)
                store.put_many(name, [message(name, i) for i in half])
            if part == 0:
                store._detach_tails()
        store.commit("a", "group", 5)
        store.trim("b", 3)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bits") / "store"
    filled(path)
    return path


def outcome(path: Path) -> str:
    """``reported``, or ``harmless``: all is there and right. Wrong data is an assertion's."""
    reported = False
    try:
        with QueueStore(path, **OPEN) as store:  # type: ignore[arg-type]
            reported = bool(store.damage)
            right = True
            for name, length in LENGTHS.items():
                if store.length(name) != length or store.first_offset(name) != 3 * (name == "b"):
                    right = False
                for at in range(store.first_offset(name), store.length(name)):
                    try:
                        assert store.get(name, at) == [message(name, at)]
                    except DragomanError:
                        reported = True
            right = right and store.committed("a", "group") == 5
            reported = reported or (not right and bool(store.verify()))
            assert reported or right, "something is missing, and nobody says so"
    except DragomanError:
        return "reported"
    return "reported" if reported else "harmless"


def flip(path: Path, name: str, content: bytes, bits: range) -> dict[str, int]:
    counts = {"reported": 0, "harmless": 0}
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(changed)
        counts[outcome(path)] += 1
    (path / name).write_bytes(content)
    return counts


def cut(path: Path, name: str, content: bytes, lengths: range) -> dict[str, int]:
    counts = {"reported": 0, "harmless": 0}
    for length in lengths:
        (path / name).write_bytes(content[:length])
        counts[outcome(path)] += 1
    (path / name).write_bytes(content)
    return counts


def every_file(full: Path, tmp_path: Path, step_bits: int, step_bytes: int) -> None:
    path = shutil.copytree(full, tmp_path / "store")
    for name in sorted(os.listdir(path)):
        if name == "LOCK":
            continue
        content = (path / name).read_bytes()
        step = min(step_bits, 7) if len(content) < 1000 else step_bits
        flipped = flip(path, name, content, range(0, len(content) * 8, step))
        shorter = cut(path, name, content, range(0, len(content), min(step_bytes, step)))
        print(f"{name}: {len(content)} bytes, flipped {flipped}, cut {shorter}")
        assert flipped["reported"] and shorter["reported"]


def test_flipped_bits_and_cuts_are_reported_or_harmless(full: Path, tmp_path: Path) -> None:
    every_file(full, tmp_path, 1009, 509)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_bit_flipped_and_every_cut_is_reported_or_harmless(
    full: Path, tmp_path: Path
) -> None:
    every_file(full, tmp_path, 1, 1)
