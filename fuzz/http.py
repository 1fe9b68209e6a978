"""Random requests against the HTTP decoder.

Invariant: whatever the bytes and however they are cut, the decoder ends in the same requests and
the same verdict, raises nothing but ``HttpError``, takes less than 100 ms, and what it accepts h11
and llhttp accept with the same meaning.

    python -m fuzz.http --seconds 600 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.calibration import too_many_pieces
from tests.wire.http1.cases import CASES
from tests.wire.http1.peers import compare
from tests.wire.http1.support import decode, one_byte_at_a_time

# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 25

SEEDS = [case.data for case in CASES if len(case.data) < 600]
PIECES = [
    *[bytes([byte]) for byte in b"\r\n\t\0 :,;=\"\x7f\x80\xff019aA/?#%@[]"], b"\r\n",
    b"\r\n\r\n", b"0\r\n\r\n",
    b"HTTP/1.1", b"HTTP/1.0", b"Host: h\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"POST ", b"X-A: b\r\n",
]  # fmt: skip


def mutate(source: random.Random) -> bytes:
    """A case, or two joined, with some changes."""
    data = bytearray(source.choice(SEEDS))
    if source.random() < 0.2:
        data += source.choice(SEEDS)
    for _ in range(source.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        at = source.randrange(len(data) + 1)
        match source.randrange(6):
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
    return bytes(data)


def check(data: bytes, source: random.Random) -> int:
    """Assert the invariant for one input; how many requests it held."""
    limits = {} if source.random() < 0.8 else {"head_bytes_max": 60, "body_bytes_max": 5}
    start = time.thread_time()
    whole, verdict, _ = decode([data], **limits)
    assert not too_many_pieces(time.thread_time() - start, PIECES_MAX), "too slow"
    at = source.randrange(len(data) + 1)
    for pieces in (one_byte_at_a_time(data), [data[:at], data[at:]]):
        again = decode(pieces, **limits)
        assert again[:2] == (whole, verdict), f"cut differently: {again[:2]} {whole} {verdict}"
    return compare(data, **limits)


def run(seconds: float, seed: int) -> tuple[int, int]:
    """Check random inputs for so long; how many inputs and accepted requests there were."""
    source = random.Random(seed)
    end = time.monotonic() + seconds
    inputs = accepted = 0
    while time.monotonic() < end:
        data = mutate(source)
        try:
            accepted += check(data, source)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, input {inputs}: {data!r}") from error
        inputs += 1
    return inputs, accepted


def main() -> int:
    """Run as a program."""
    options = argparse.ArgumentParser(prog="python -m fuzz.http", description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=int(time.time()))
    arguments = options.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    inputs, accepted = run(arguments.seconds, arguments.seed)
    print(f"{inputs} inputs, {accepted} accepted requests, nothing unexplained")
    return 0


if __name__ == "__main__":
    sys.exit(main())
