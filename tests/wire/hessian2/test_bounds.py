"""What a peer can make the readers of hessian2 spend: memory, time, stack."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import pytest

from dragoman.errors import LimitError, ProtocolError, UsageError
from dragoman.wire.hessian2 import (
    CONTAINERS_MAX,
    DEPTH_MAX,
    Hessian2Scanner,
    Hessian2Writer,
    decode,
    encode,
    to_json,
)
from dragoman.wire.java import Bean, BigInteger, MapKey
from tests.calibration import pieces_of

SIZE = 70_000


def listed(values: bytes, count: int) -> bytes:
    """A list of so many values."""
    return b"\x58I" + count.to_bytes(4) + values


def skip(data: bytes) -> None:
    """Pass over the value that ``data`` is."""
    Hessian2Scanner(data).skip_value()


READERS: list[Callable[[bytes], object]] = [
    decode,
    lambda data: decode(data, exact=True),
    to_json,
    skip,
]
READER_NAMES = ["decode", "exact", "json", "skip"]
# Name, bytes, lists, maps and objects in it. Each is small on the wire for what it makes.
CHEAP: list[tuple[str, bytes, int]] = [
    ("empty lists", listed(b"\x78" * SIZE, SIZE), SIZE),
    ("empty maps", listed(b"HZ" * SIZE, SIZE), SIZE),
    ("objects without fields", listed(b"C\x01a\x90" + b"\x60" * SIZE, SIZE), SIZE),
    ("objects of one field", listed(b"C\x01a\x91\x01x" + b"\x60N" * SIZE, SIZE), SIZE),
    ("maps of one entry", listed(b"H\x01aNZ" * SIZE, SIZE), SIZE),
    ("typed lists", listed(b"p\x01t" + b"p\x90" * SIZE, SIZE + 1), SIZE + 1),
    ("nulls", listed(b"N" * SIZE, SIZE), 1),
    ("ints", listed(b"\xd4\x01\x00" * SIZE, SIZE), 1),
    ("longs", listed(b"\xf9\x00" * SIZE, SIZE), 1),
    ("doubles", listed(b"\x5d\x07" * SIZE, SIZE), 1),
    ("dates", listed(b"\x4b\x00\x00\x00\x01" * SIZE, SIZE), 1),
    ("characters", listed(b"\x01\xe4\xb8\xad" * SIZE, SIZE), 1),
    ("bytes", listed(b"\x21a" * SIZE, SIZE), 1),
    ("references", listed(b"Q\x90" * SIZE, SIZE), 1),
    ("a map of ints", b"H" + b"".join(b"I" + i.to_bytes(4) + b"N" for i in range(SIZE)) + b"Z", 1),
    ("one string", b"S\xff\xff" + b"a" * 0xFFFF, 0),
    ("chunks", b"R\x00\x01a" * SIZE + b"\x00", 0),
    ("chunks of bytes", b"A\x00\x01a" * SIZE + b"\x20", 0),
    ("class definitions", b"C\x01a\x90" * SIZE + b"N", 0),
    ("a class of many fields", b"C\x01aI" + SIZE.to_bytes(4) + b"\x00" * SIZE + b"N", 0),
]


@pytest.mark.parametrize("read", READERS, ids=READER_NAMES)
@pytest.mark.parametrize(("name", "data", "containers"), CHEAP, ids=[c[0] for c in CHEAP])
def test_memory_is_bounded_by_what_arrived(
    name: str, data: bytes, containers: int, read: Callable[[bytes], object]
) -> None:
    tracemalloc.start()
    try:
        read(data)
    except ProtocolError as error:
        # Only what JSON has no word for.
        assert read is to_json and "contains itself" in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 * len(data) + 512 * containers + 100_000


MEMORY = """
import resource
from dragoman.wire.hessian2 import Hessian2Scanner
data = {data}
Hessian2Scanner(b"N").skip_value()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Hessian2Scanner(data).read_json()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / len(data))
"""


@pytest.mark.parametrize(
    "data",
    [
        'b"C\\x01aI" + (2_000_000).to_bytes(4) + bytes(2_000_000) + b"N"',
        'b"C\\x01a\\x90" * 500_000 + b"N"',
        'b"\\x58I" + (400_000).to_bytes(4) + b"\\x78" * 400_000',
        'b"\\x58I" + (2_000_000).to_bytes(4) + b"\\x5f\\x7f\\x00\\x00\\x01" * 2_000_000',
        'b"R\\x00\\x01\\x01" * 500_000 + b"\\0"',
    ],
    ids=["fields", "classes", "lists", "doubles", "controls"],
)
def test_memory_beyond_pythons_is_bounded_too(data: str) -> None:
    script = MEMORY.format(data=data)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 64


@pytest.mark.parametrize("read", READERS, ids=READER_NAMES)
def test_more_containers_than_allowed_are_refused(read: Callable[[bytes], object]) -> None:
    count = CONTAINERS_MAX - 1
    read(listed(b"\x78" * count, count))
    with pytest.raises(LimitError, match=f"more than {CONTAINERS_MAX} lists, maps and objects"):
        read(listed(b"\x78" * (count + 1), count + 1))


def test_the_bound_of_containers_can_be_set() -> None:
    assert decode(b"\x79\x78", containers_max=2) == [[]]
    for read in (decode, to_json):
        with pytest.raises(LimitError, match="more than 1 lists, maps and objects at byte 1"):
            read(b"\x79\x78", containers_max=1)  # type: ignore[operator]


def deep(step: bytes, count: int = 10_000) -> bytes:
    """So many levels."""
    return step * count + b"N"


DEEP = {
    "lists": deep(b"\x79"),
    "lists without end": deep(b"\x57"),
    "maps": deep(b"H\x00"),
    "keys of maps": deep(b"H"),
    "objects": b"C\x01a\x91\x01x" + deep(b"\x60"),
    "new classes": deep(b"C\x01a\x91\x01x\x60"),
    "definitions before lists": deep(b"C\x01a\x90\x79"),
}


@pytest.mark.parametrize("read", READERS, ids=READER_NAMES)
@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_refused(name: str, read: Callable[[bytes], object]) -> None:
    with pytest.raises(LimitError, match=r"nested deeper than \d+ at byte \d+"):
        read(DEEP[name])


def test_what_is_just_deep_enough_goes_both_ways() -> None:
    value: object = 1
    for _ in range(DEPTH_MAX):
        value = [value]
    assert decode(encode(value)) == value
    with pytest.raises(LimitError):
        decode(b"\x79" + encode(value))
    with pytest.raises(UsageError):
        encode([value])


@pytest.mark.parametrize("read", READERS, ids=READER_NAMES)
@pytest.mark.parametrize(
    "data",
    [
        *(tag + b"I\x7f\xff\xff\xff" for tag in (b"\x58", b"V\x01a", b"C\x01a", b"O", b"Q", b"M")),
        *(tag + b"I\xff\xff\xff\xff" for tag in (b"\x58", b"V\x01a", b"C\x01a", b"O", b"Q", b"M")),
        *(tag + b"L\x00\x00\x00\x01\x00\x00\x00\x00" for tag in (b"\x58", b"C\x01a", b"O", b"Q")),
        *(tag + b"L\x7f" + b"\xff" * 7 for tag in (b"\x58", b"C\x01a", b"O", b"Q")),
        b"S\xff\xffa",
        b"R\xff\xffa",
        b"B\xff\xffa",
        b"A\xff\xffa",
    ],
    ids=bytes.hex,
)
def test_lengths_and_numbers_that_are_not_there_are_refused_at_once(
    data: bytes, read: Callable[[bytes], object]
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=r"at byte \d+$"):
            read(data + b"\x00" * 50)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100_000


MERSENNE = 2**61 - 1  # what Python takes numbers modulo for their hash
KEYS = b"".join(
    encode(BigInteger((i + 1 << 70) * MERSENNE), i, types=["java.math.BigInteger", "I"])
    for i in range(20_000)
)
SLOW = {
    "keys of one hash": b"H" + KEYS + b"Z",
    "decimals of one hash": b"H"
    + encode(
        *[each for i in range(20_000) for each in (Bean("java.math.BigDecimal", value=f"1E{i}"), i)]
    )
    + b"Z",
    "two fields of one name": b"C\x01aI" + SIZE.to_bytes(4) + b"\x01x" * SIZE + b"N",
    "classes with two fields of one name": (b"C\x01a\xa0" + b"\x01x" * 16) * 10_000 + b"N",
    "lists that are shared and shared": encode(
        functools.reduce(lambda inner, _: [inner, inner], range(100), [])
    ),
    "strings cut at the end": b"\x57" + b"\x30\xff" * SIZE,
    **{name: data for name, data, _ in CHEAP},
}


@pytest.mark.parametrize("read", READERS, ids=READER_NAMES)
@pytest.mark.parametrize("name", SLOW)
def test_no_input_takes_long_for_its_size(name: str, read: Callable[[bytes], object]) -> None:
    data = SLOW[name]
    # Most take some nanoseconds a byte, a piece milliseconds; quadratic time would be minutes.
    bound = 20 + len(data) / 4000

    def refused_or_not() -> None:
        with contextlib.suppress(ProtocolError):
            read(data)

    assert pieces_of(refused_or_not, bound) < bound


def test_keys_that_cost_much_are_counted() -> None:
    with pytest.raises(LimitError, match="more than 2000 keys of maps"):
        decode(SLOW["keys of one hash"])


def test_maps_lists_and_beans_are_keys() -> None:
    key = MapKey({"a": (1, MapKey({"b": None}))})
    value = {key: 1, (1, (2, "x")): 2, Bean("x.Y", list=(1, 2)): 3}
    assert decode(encode(value)) == value
    assert decode(encode(value), exact=True)[key] == 1
    assert to_json(encode({key: 1})) == b'{"{\\"a\\":[1,{\\"b\\":null}]}":1}'
    shared: object = "x"
    for _ in range(60):
        shared = [shared, shared]
    data = encode(shared)
    with pytest.raises(ProtocolError, match="a map's key of more than 200 values at byte 1"):
        decode(b"H" + data + b"NZ")


def test_a_writer_ends_with_what_is_shared_and_cyclic() -> None:
    shared: list[object] = []
    for _ in range(100):
        shared = [shared, shared]
    assert len(encode(shared)) < 500
    everything: dict[str, object] = {}
    everything["list"] = [everything, {"again": everything}]
    assert len(encode(everything)) < 50


def test_a_writer_keeps_what_it_refers_to() -> None:
    # Else another object could come at the same address, and be taken for it.
    writer = Hessian2Writer()
    for i in range(1000):
        writer.write([i])
    data = writer.take()
    assert data == b"".join(encode([i]) for i in range(1000))


def test_a_failed_value_leaves_nothing_behind_in_encode() -> None:
    for _ in range(3):
        with pytest.raises(UsageError):
            encode([1, 2, object()])
        assert encode([1]) == b"\x79\x91"
        with pytest.raises(ProtocolError):
            decode(b"\x7a\x91")
        assert decode(b"\x79\x91") == [1]
        with pytest.raises(ProtocolError):
            to_json(b"\x7a\x91")
        assert to_json(b"\x79\x91") == b"[1]"
