"""Mutated mesh frames against the decoder.

Invariant: whatever the bytes and however they are cut, the frames and the verdict are the same;
every frame that comes out encodes to the bytes that it came from; nothing but a ProtocolError is
raised, nothing takes 100 ms, and nothing is accepted after an error.

    python -m fuzz.mesh --seconds 600 --seed 1
"""

from __future__ import annotations

import random
import time

from tests.calibration import too_many_pieces

from dragoman.errors import ProtocolError
from dragoman.wire.mesh import KINDS, MeshDecoder, encode
from fuzz.running import main

BODY_BYTES_MAX = 300
# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 25
EDGES = (0, 1, 2, 13, 14, 15, 16, 127, 128, 254, 255)

Frame = tuple[int, int, int, int, int, bytes]


def some_frame(source: random.Random) -> bytes:
    """A frame, usually a valid one."""
    kind = source.choice(list(KINDS.values()))
    fields = [0, 0, 0]
    for i in range(3):
        if source.random() < 0.6:
            fields[i] = source.choice((1, 2, 255, 65535))
    body = b""
    if source.random() < 0.5:
        body = source.randbytes(source.choice((0, 1, 15, 16, 17, 40, BODY_BYTES_MAX)))
    flags = source.randrange(2)
    return encode(kind, flags=flags, target=fields[0], id=fields[1], value=fields[2], body=body)


def mutate(data: bytes, source: random.Random) -> bytes:
    """``data`` with a few bytes changed, dropped, doubled or inserted."""
    changed = bytearray(data)
    for _ in range(source.choice((0, 0, 1, 1, 2, 5))):
        place = source.randrange(len(changed) + 1)
        action = source.randrange(4)
        if action == 0 and place < len(changed):
            changed[place] = source.choice(EDGES)
        elif action == 1:
            del changed[place : place + source.randrange(1, 20)]
        elif action == 2:
            changed[place:place] = changed[place : place + source.randrange(1, 20)]
        else:
            changed[place:place] = source.randbytes(source.randrange(1, 4))
    return bytes(changed)


def verdict(pieces: list[bytes]) -> tuple[list[Frame], bool]:
    """The frames before the first error, and whether there was one."""
    decoder = MeshDecoder(BODY_BYTES_MAX)
    found: list[Frame] = []
    for i, piece in enumerate(pieces):
        try:
            found += decoder.frames(piece)
        except ProtocolError:
            try:
                decoder.frames(b"".join(pieces[i + 1 :]))
            except ProtocolError:
                return found, True
            raise AssertionError("the decoder came back to life after an error") from None
    return found, False


def check(data: bytes, source: random.Random) -> None:
    """Check the invariant for these bytes."""
    started_s = time.thread_time()
    single, failed = verdict([data[i : i + 1] for i in range(len(data))])
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(3))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for way in ([data], pieces):
        frames, also_failed = verdict(way)
        assert also_failed == failed, (data, way)
        # Frames before an error in the same piece are lost to this interface.
        assert frames == single[: len(frames)], (data, way)
        assert failed or frames == single, (data, way)
    again = b"".join(
        encode(kind, flags=flags, target=target, id=id, value=value, body=body)
        for kind, flags, target, id, value, body in single
    )
    assert data.startswith(again), data
    assert not too_many_pieces(time.thread_time() - started_s, PIECES_MAX), data


def once(seed: int) -> None:
    """Check the invariant for one seed."""
    source = random.Random(seed)
    data = b"".join(some_frame(source) for _ in range(source.randrange(1, 5)))
    check(mutate(data, source), source)


if __name__ == "__main__":
    main(once, __doc__)
