"""Random bytes against the reader of JSONB, and against bodies in fastjson2.

Invariant: whatever the bytes, they are taken or refused with a ProtocolError, and nothing else; the
readers of plain, typed and exact values take the same documents to the same byte; what was read
exactly, written and read again is written to the same bytes ever after; a reply's body that is
taken is taken in hessian2 as well, and its JSON is what Python's ``json`` reads; nothing takes
100 ms or much memory.

    python -m fuzz.fastjson2 --seconds 600 --seed 1
"""

from __future__ import annotations

import contextlib
import json
import random
import time

from tests.calibration import too_many_pieces

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.dubbo.fastjson2 import (
    decode_reply,
    decode_request,
    encode_reply,
    reply_as_hessian2,
)
from dragoman.wire.hessian2 import Hessian2Reader, Hessian2Scanner
from dragoman.wire.jsonb.reader import JsonbReader
from dragoman.wire.jsonb.writer import encode
from fuzz.hessian2 import value
from fuzz.running import main

# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 50

PIECES = [
    *(bytes([tag]) for tag in range(256)),
    b"\x93\x4a$",
    b"\x93\x4b..",
    b"\x93\x4c#-1",
    b"\x93\x4d$[0]",
    b"\x93\x4c$.x",
    b"\x95\x93\x4d$[1]",
    b"\x92\x4ca.B\x00",
    b"\x92\x00",
    b"\x92\x7f\x00",
    b"\x92\x4b[B\x00",
    b"\x92\x4b[I\x00",
    b"\x92\x4b[O\x00",
    b"\x92\x4d[a.B\x00",
    b"\x92\x50HashSet\x00",
    b"\x92\x50TreeMap\x00",
    b"\x7f\x4ax\x00",
    b"\x7f\x4ax\x01",
    b"\x7f\x00",
    b"\x7f\x48\x7f\xff\xff\xff",
    b"\x7f\xff",
    b"\xa6\x4ax\x01\xa5",
    b"\xa4\x48\x7f\xff\xff\xff",
    b"\xa4\x48\x80\x00\x00\x00",
    b"\x79\x48\x7f\xff\xff\xff",
    b"\x7a\x02\xc3\xa9",
    b"\x7a\x03\xed\xa0\xbd",
    b"\x7b\x04\xff\xfea\x00",
    b"\x7c\x02\x3d\xd8",
    b"\x7d\x04\xd8\x3d\xde\x00",
    b"\x7e\x02\xd6\xd0",
    b"\xa9\x07\xe4\x02\x1d",
    b"\xa8\x07\xe4\x02\x1d\x17;:\x48\x07\x54\xd4\xc1",
    b"\xaa\x07\xe4\x02\x1d\x01\x02\x03\x00\x4f+08:00",
    b"\xaa\x07\xe4\x02\x1d\x01\x02\x03\x00\x55Europe/Paris",
    b"\xae\xbe\x7f\xff\xff\xff\xff\xff\xff\xff\x00",
    b"\xb9\x48\x80\x00\x00\x00\x01",
    b"\xb9\x02\xbb\x09\x01\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xbb\x48\x7f\xff\xff\xff",
    b"\x90\x48\x00\x01\x00\x00",
    b"\x95" * 300,
    b"\x00\x00\x00\x01",
    b"\xa6\x01\x01\xa5",
]


def mutate(source: random.Random, data: bytearray) -> bytes:
    """``data`` with some changes."""
    for _ in range(source.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        at = source.randrange(len(data) + 1)
        match source.randrange(6):
            case 0:
                data[at:at] = source.choice(PIECES)
            case 1:
                del data[at : at + source.choice((1, 1, 2, 5))]
            case 2 if at < len(data):
                data[at] ^= 1 << source.randrange(8)
            case 3:
                data[at:at] = data[at : at + source.randrange(1, 20)]
            case 4:
                data[at : at + source.randrange(4)] = source.choice(PIECES)
            case 5:
                del data[at:]
    return bytes(data)


def check_document(data: bytes) -> None:
    """The readers take the first document of ``data``, or refuse it."""
    plain, typed = JsonbReader(data), JsonbReader(data, typed=True)
    exact = JsonbReader(data, exact=True)
    taken = []
    for reader in (plain, typed, exact):
        try:
            back = reader.read()
        except ProtocolError as error:
            assert "fastjson2: " in str(error), error
            taken.append(-1)
        else:
            taken.append(reader.at)
    # A key that is a date is one in one of them and a Bean in the other.
    assert taken[0] == taken[1], data
    assert taken[2] in (-1, taken[0]) or taken[0] == -1, data
    if taken[2] < 0:
        return
    try:
        written = encode(back)
    except UsageError:
        # Sharing that a path cannot tell, and numbers beyond those of Java.
        return
    # A map of somebody's own whose keys are characters has texts for keys the next time.
    again = JsonbReader(written, exact=True)
    settled = encode(again.read())
    assert again.at_end
    assert encode(JsonbReader(settled, exact=True).read()) == settled, data


def check_body(data: bytes) -> None:
    """A body is taken as a request, as a reply, as a reply in hessian2, or refused."""
    with contextlib.suppress(ProtocolError):
        decode_request(data)
    try:
        code, _, _ = decode_reply(data)
    except ProtocolError:
        return
    try:
        body = reply_as_hessian2(data)
    except ProtocolError:
        return
    reader = Hessian2Reader(body)
    assert reader.read() == code
    scanner = Hessian2Scanner(body)
    scanner.skip_value()
    try:
        if code % 3 != 2:
            json.loads(scanner.read_json())
    except ProtocolError as error:
        assert "hessian2: " in str(error), error


def check(source: random.Random, variants: int = 8) -> int:
    """A value and a body with it, as they are and changed; how many inputs that was."""
    made = value(source, [])
    start = time.thread_time()
    try:
        document = encode(made)
        body = encode_reply(4, made, {"a": "b"})
    except UsageError:
        # Values that hold themselves where no path leads.
        document, body = b"\xa6\xa5", b"\x00\x00\x00\x01\x05\x00\x00\x00\x02\xa6\xa5"
    check_document(document)
    check_body(body)
    for _ in range(variants):
        check_document(mutate(source, bytearray(document)))
        check_body(mutate(source, bytearray(body)))
    spent = time.thread_time() - start
    assert not too_many_pieces(spent, PIECES_MAX * (variants + 1)), "too slow"
    return 2 * (variants + 1)


if __name__ == "__main__":
    main(lambda seed: check(random.Random(seed)), __doc__)
