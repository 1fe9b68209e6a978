"""Random bytes against the readers of hessian2.

Invariant: whatever the bytes, the reader, the reader of exact types, the transcoder and what skips
values each take them or refuse them with a ProtocolError, and nothing else; what the reader takes
is skipped to the same byte; what was read exactly is written to bytes that are read and written to
the same again; JSON is what Python's ``json`` reads; nothing takes 100 ms or much memory.

    python -m fuzz.hessian2 --seconds 600 --seed 1
"""

from __future__ import annotations

import datetime
import decimal
import json
import random
import time
import uuid
from typing import Any

from tests.calibration import too_many_pieces

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.hessian2 import Hessian2Reader, Hessian2Scanner, encode
from dragoman.wire.java import Bean, BigInteger, Date, Long, TypedList, TypedMap
from fuzz.running import main

# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 25

PIECES = [
    *(bytes([tag]) for tag in range(256)),
    b"Q\x90",
    b"Q\x91",
    b"Q\x92",
    b"C\x01a\x91\x01b",
    b"C\x01a\x91\x04name",
    b"C\x14java.math.BigDecimal\x91\x05value\x60\x041E+3",
    b"C\x14java.math.BigInteger\x92\x06signum\x03mag",
    b"C\x12java.sql.Timestamp\x91\x05value",
    b"C\x30\x34com.alibaba.com.caucho.hessian.io.java8.LocalDateHandle\x93\x04year\x05month\x03day",
    b"\x60",
    b"\x61",
    b"I\x7f\xff\xff\xff",
    b"I\x80\x00\x00\x00",
    b"L\x00\x00\x00\x01\x00\x00\x00\x00",
    b"S\xff\xff",
    b"R\x00\x01a",
    b"A\x00\x02ab",
    b"B\xff\xff",
    b"V\x04[int",
    b"M\x90",
    b"\x58I\x7f\xff\xff\xff",
    b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xed\xa0\xbd",
    b"\xf0\x9f\x98\x80",
    b"y" * 300,
    b"H\x90" * 130,
    b"NZ",
]
WORDS = ["", "a", "name", "value", "cause", "é", "\ud800", "\U0001f600", "x" * 40, "日本" * 20]
CLASSES = [
    "a.B",
    "a.C",
    "java.math.BigDecimal",
    "java.util.UUID",
    "com.alibaba.com.caucho.hessian.io.java8.LocalTimeHandle",
    "com.alibaba.com.caucho.hessian.io.java8.LocalDateTimeHandle",
    "com.alibaba.com.caucho.hessian.io.java8.DurationHandle",
    "com.alibaba.com.caucho.hessian.io.EnumSetHandler",
]
FIELDS = ["name", "value", "cause", "x", "hour", "minute", "second", "nano", "date", "time"]


def scalar(source: random.Random) -> Any:
    """A value that does not nest."""
    match source.randrange(12):
        case 0:
            return None
        case 1:
            return source.random() < 0.5
        case 2:
            return source.randrange(-(1 << source.randrange(1, 70)), 1 << source.randrange(1, 70))
        case 3:
            return Long(source.randrange(-20, 20))
        case 4:
            return source.choice([0.0, 1.0, -3.0, 300.0, 12.25, 1e300, float("nan"), float("inf")])
        case 5:
            return source.randbytes(source.choice((0, 1, 15, 16, 40)))
        case 6:
            return decimal.Decimal(source.choice(("1.50", "-1E+3", "0", "1" * 30)))
        case 7:
            return datetime.datetime.fromtimestamp(source.randrange(2**33), datetime.UTC)
        case 8:
            return source.choice(
                [
                    datetime.date(2020, 1, 2),
                    datetime.datetime(2020, 1, 2, 3, 4, 5),
                    datetime.timedelta(seconds=-1.5),
                    uuid.UUID(int=source.getrandbits(128)),
                    BigInteger(-5),
                    Date(2**62),
                ]
            )
        case _:
            return source.choice(WORDS)


def value(source: random.Random, known: list[Any], depth: int = 0) -> Any:
    """A random value, which may hold others again that were made before, itself included."""
    if depth > 3 or source.random() < 0.4:
        return scalar(source)
    if known and source.random() < 0.15:
        return source.choice(known)
    count = source.choice((0, 1, 2, 3, 9))
    match source.randrange(5):
        case 0:
            made: Any = []
            known.append(made)
            made.extend(value(source, known, depth + 1) for _ in range(count))
        case 1:
            made = TypedList(source.choice(("[int", "java.util.HashSet")))
            known.append(made)
            made.extend(value(source, known, depth + 1) for _ in range(count))
        case 2:
            made = source.choice(({}, TypedMap("java.util.TreeMap"), TypedMap("a.Map")))
            known.append(made)
            for _ in range(count):
                key = source.choice(WORDS) if source.random() < 0.7 else scalar(source)
                made[key] = value(source, known, depth + 1)
        case _:
            made = Bean(source.choice(CLASSES))
            known.append(made)
            for field in source.sample(FIELDS, min(count, 4)):
                made[field] = value(source, known, depth + 1)
    return made


def mutate(source: random.Random, data: bytearray) -> bytes:
    """``data`` with some changes."""
    for _ in range(source.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        at = source.randrange(len(data) + 1)
        match source.randrange(7):
            case 0:
                data[at:at] = source.choice(PIECES)
            case 1:
                del data[at : at + source.choice((1, 1, 2, 5))]
            case 2 if at < len(data):
                data[at] = source.randrange(256)
            case 3 if at < len(data):
                data[at] ^= 1 << source.randrange(8)
            case 4:
                length = source.randrange(1, 20)
                data[at:at] = data[at : at + length]
            case 5:
                data[at : at + source.randrange(4)] = source.choice(PIECES)
            case 6:
                del data[at:]
    return bytes(data)


def check_values(data: bytes) -> None:
    """Each reader takes ``data``, value by value, or refuses it."""
    reader, skipper, scanner = Hessian2Reader(data), Hessian2Scanner(data), Hessian2Scanner(data)
    read = json_read = True
    skipped = True
    while not reader.at_end and (read or skipped or json_read):
        if skipped:
            try:
                skipper.skip_value()
            except ProtocolError as error:
                assert "hessian2: " in str(error) and " at byte " in str(error), error
                skipped = False
        if read:
            try:
                reader.read()
            except ProtocolError as error:
                assert "hessian2: " in str(error) and " at byte " in str(error), error
                # What cannot be a key in Python can be skipped.
                assert not skipped or "key" in str(error), (data, error)
                read = False
            else:
                assert not skipped or skipper.at == reader.at, data
        if json_read:
            try:
                text = scanner.read_json()
            except ProtocolError as error:
                assert "hessian2: " in str(error) and " at byte " in str(error), error
                json_read = False
            else:
                json.loads(text)
                assert not skipped or scanner.at == skipper.at, data
        if not skipped:
            break


def check_exact(data: bytes) -> None:
    """A value read exactly is written as it was meant."""
    try:
        back = Hessian2Reader(data, exact=True).read()
    except ProtocolError:
        return
    try:
        written = encode(back)
    except UsageError as error:
        raise AssertionError("what was read cannot be written") from error
    again = Hessian2Reader(written, exact=True)
    # As long as there is no key that was two keys before, 1 and 1.0.
    assert encode(again.read()) == written, data
    assert again.at_end


def check(source: random.Random, variants: int = 8) -> int:
    """Some values, as they are and changed; returns how many inputs that was."""
    data = encode(*[value(source, []) for _ in range(source.choice((1, 1, 2)))])
    start = time.thread_time()
    check_values(data)
    check_exact(data)
    for _ in range(variants):
        changed = mutate(source, bytearray(data))
        check_values(changed)
        check_exact(changed)
    spent = time.thread_time() - start
    assert not too_many_pieces(spent, PIECES_MAX * (variants + 1)), "too slow"
    return variants + 1


if __name__ == "__main__":
    main(lambda seed: check(random.Random(seed)), __doc__)
