"""Mesh frames, each case whole, a byte at a time, split everywhere, cut short and with bytes after
it.
"""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest
from fuzz.mesh import once
from fuzz.running import attack
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError
from dragoman.wire.mesh import KINDS, VERSION, MeshDecoder, encode
from tests.tables import each_row
from tests.wire.pieces import ways

Frame = tuple[int, int, int, int, int, bytes]

HELLO_BODY = struct.pack("<4sHHII16s", b"DRGM", VERSION, VERSION, 0, 1 << 24, bytes(16))
# One valid frame of each type at least: kind, flags, target, id, value, body.
CASES: dict[str, Frame] = {
    "hello": (KINDS["HELLO"], 0, 0, 0, 0, HELLO_BODY + b"dragoman"),
    "hello_without_a_name": (KINDS["HELLO"], 0, 0, 0, 0, HELLO_BODY),
    "name": (KINDS["NAME"], 0, 1, 0, 0, b"form"),
    "request": (KINDS["REQUEST"], 0, 1, 7, 5000, b"interface=a&method=b"),
    "request_without_a_reply": (KINDS["REQUEST"], 1, 1, 8, 5000, b"log this"),
    "request_without_a_body": (KINDS["REQUEST"], 0, 65535, 0xFFFFFFFF, 1, b""),
    "reply": (KINDS["REPLY"], 0, 0, 7, 1, b"-1234"),
    "reply_without_credit_or_body": (KINDS["REPLY"], 0, 0, 7, 0, b""),
    "error": (KINDS["ERROR"], 0, 7, 7, 1, "es ging schief: \u00fc".encode()),
    "error_safe_to_retry": (KINDS["ERROR"], 1, 3, 8, 1, b""),
    "cancel": (KINDS["CANCEL"], 0, 0, 9, 0, b""),
    "credit": (KINDS["CREDIT"], 0, 0, 0, 200, b""),
    "demand": (KINDS["DEMAND"], 0, 0, 0, 17, b""),
    "demand_of_nothing": (KINDS["DEMAND"], 0, 0, 0, 0, b""),
    "reclaim": (KINDS["RECLAIM"], 0, 0, 0, 5, b""),
    "return": (KINDS["RETURN"], 0, 0, 0, 5, b""),
    "return_of_nothing": (KINDS["RETURN"], 0, 0, 0, 0, b""),
    "ping": (KINDS["PING"], 0, 0, 0, 99, b""),
    "pong": (KINDS["PONG"], 0, 0, 0, 99, b""),
    "goodbye": (KINDS["GOODBYE"], 0, 0, 0, 0, b""),
    "order": (KINDS["ORDER"], 0, 0, 7, 0, b"account 4711"),
    "piece": (KINDS["PIECE"], 0, 0, 7, 100_000, b"a part of a body"),
    "piece_that_announces_a_body": (KINDS["PIECE"], 0, 0, 7, 100_000, b""),
    "metadata": (KINDS["METADATA"], 0, 0, 7, 0, b"\6\4\0tenant4711"),
    "goodbye_with_a_reason": (KINDS["GOODBYE"], 0, 0, 0, 0, b"shutting down"),
}
HEADER = struct.Struct("<IBBHII")


def raw(frame: Frame, length: int | None = None) -> bytes:
    """The bytes of a frame by the format's table, not by the encoder."""
    kind, flags, target, id, value, body = frame
    return (
        HEADER.pack(len(body) if length is None else length, kind, flags, target, id, value) + body
    )


def decode(pieces: list[bytes], body_bytes_max: int = 1 << 20) -> list[Frame]:
    decoder = MeshDecoder(body_bytes_max)
    return [frame for piece in pieces for frame in decoder.frames(piece)]


@each_row("frame", CASES.values(), names=list(CASES))
def test_a_frame_is_read_however_it_comes(frame: Frame) -> None:
    data = raw(frame)
    for pieces in ways(data):
        assert decode(pieces) == [frame]


@each_row("frame", CASES.values(), names=list(CASES))
def test_the_encoder_follows_the_table(frame: Frame) -> None:
    kind, flags, target, id, value, body = frame
    made = encode(kind, flags=flags, target=target, id=id, value=value, body=body)
    assert made == raw(frame)


@each_row("frame", CASES.values(), names=list(CASES))
def test_what_follows_a_frame_is_the_next_frame(frame: Frame) -> None:
    other = CASES["request"]
    for pieces in ways(raw(frame) + raw(other) + raw(frame)):
        assert decode(pieces) == [frame, other, frame]


@each_row("frame", CASES.values(), names=list(CASES))
def test_a_truncated_frame_is_waited_for(frame: Frame) -> None:
    data = raw(frame)
    for place in range(len(data)):
        decoder = MeshDecoder()
        assert decoder.frames(data[:place]) == []
        assert decoder.error is None
        assert decoder.frames(data[place:]) == [frame]


def refused(frame: Frame, length: int | None = None, **options: int) -> str:
    """Why ``frame`` is refused: the same whole, a byte at a time, and with bytes after it."""
    data = raw(frame, length)
    reasons = set()
    for pieces in [
        [data],
        [data + raw(CASES["ping"])],
        [data[i : i + 1] for i in range(len(data))],
    ]:
        decoder = MeshDecoder(**options)
        with pytest.raises(ProtocolError) as raised:
            for piece in pieces:
                assert decoder.frames(piece) == []
        reasons.add(str(raised.value))
        # The decoder stays dead: nothing is resynchronised.
        with pytest.raises(ProtocolError):
            decoder.frames(raw(CASES["ping"]))
    assert len(reasons) == 1
    return reasons.pop()


@pytest.mark.parametrize("kind", [0, 17, 18, 128, 255])
def test_an_unknown_type_is_refused(kind: int) -> None:
    assert refused((kind, 0, 0, 0, 0, b"")) == f"unknown mesh frame type {kind}"


@each_row("frame", CASES.values(), names=list(CASES))
def test_an_unknown_flag_is_refused(frame: Frame) -> None:
    kind, known, *rest = frame
    for bit in range(8):
        if kind in WITH_A_FLAG and bit == 0:
            continue
        message = refused((kind, known | 1 << bit, *rest))  # type: ignore[arg-type]
        assert message.startswith("unknown flags") and message.endswith(f"frame type {kind}")


# Which fields each type uses: (target, id, value), as "must" be set, "may" be, or "not".
FIELDS = {
    "HELLO": ("not", "not", "not"),
    "NAME": ("must", "not", "not"),
    "REQUEST": ("must", "must", "must"),
    "REPLY": ("not", "must", "may"),
    "ERROR": ("must", "must", "may"),
    "CANCEL": ("not", "must", "not"),
    "CREDIT": ("not", "not", "must"),
    "DEMAND": ("not", "not", "may"),
    "RECLAIM": ("not", "not", "must"),
    "RETURN": ("not", "not", "may"),
    "PING": ("not", "not", "may"),
    "PONG": ("not", "not", "may"),
    "GOODBYE": ("not", "not", "not"),
    "ORDER": ("not", "must", "not"),
    "PIECE": ("not", "must", "may"),
    "METADATA": ("not", "must", "not"),
}
# The types whose flag 0 has a meaning.
WITH_A_FLAG = {KINDS["REQUEST"], KINDS["ERROR"], KINDS["GOODBYE"]}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("field", [0, 1, 2])
def test_a_field_that_a_type_does_not_use_is_0_and_one_it_needs_is_not(
    name: str, field: int
) -> None:
    good = next(frame for frame in CASES.values() if frame[0] == KINDS[name])
    use = FIELDS[name][field]
    changed = list(good)
    changed[2 + field] = 0 if use == "must" else 1
    frame: Frame = tuple(changed)  # type: ignore[assignment]
    if use == "may":
        assert decode([raw(frame)]) == [frame]
        return
    word = "must not be 0" if use == "must" else "must be 0"
    message = refused(frame)
    assert ("target", "id", "value")[field] in message and word in message


@pytest.mark.parametrize("name", KINDS)
def test_a_body_is_as_long_as_its_type_allows(name: str) -> None:
    good = next(frame for frame in CASES.values() if frame[0] == KINDS[name])
    least = {"HELLO": 32, "NAME": 1, "ORDER": 1, "METADATA": 1}.get(name, 0)
    most = {"HELLO": 1024, "NAME": 1024, "GOODBYE": 1024, "ORDER": 255}.get(name, 0)
    if name in ("REQUEST", "REPLY", "ERROR", "PIECE", "METADATA"):
        most = 4096
    for n in {least, most}:
        frame: Frame = (*good[:5], bytes(n))
        assert decode([raw(frame)], body_bytes_max=4096) == [frame]
    message = refused((*good[:5], bytes(most + 1)), body_bytes_max=4096)
    assert f"a body of {most + 1} bytes, at most {most} allowed" in message
    if least:
        message = refused((*good[:5], bytes(least - 1)))
        assert f"a body of {least - 1} bytes, at least {least} expected" in message


@pytest.mark.parametrize("length", [(1 << 20) + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_an_impossible_length_is_refused_before_its_body_comes(length: int) -> None:
    message = refused(CASES["request"], length, body_bytes_max=1 << 20)
    assert f"a body of {length} bytes" in message


def test_a_large_body_is_put_together_from_pieces_of_any_size() -> None:
    source = random.Random(5)
    body = source.randbytes(3_000_000)
    frame: Frame = (KINDS["REPLY"], 0, 0, 1, 1, body)
    data = raw(frame) + raw(CASES["ping"])
    for most in (100_000, 700_000, 5_000_000):
        cuts = [0]
        while cuts[-1] < len(data):
            cuts.append(min(len(data), cuts[-1] + source.randint(1, most)))
        assert decode([data[a:b] for a, b in pairwise(cuts)], 1 << 22) == [frame, CASES["ping"]]


def test_a_body_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    frame: Frame = (KINDS["REQUEST"], 0, 1, 1, 1, bytes(70000))
    assert decode([raw(frame)], body_bytes_max=70000) == [frame]
    with pytest.raises(ProtocolError, match="70000 bytes, at most 69999"):
        decode([raw(frame)], body_bytes_max=69999)


def test_the_text_of_an_error_is_bounded_whatever_bodies_are_taken() -> None:
    frame: Frame = (KINDS["ERROR"], 0, 7, 1, 1, bytes(4096))
    assert decode([raw(frame)], body_bytes_max=1 << 20) == [frame]
    message = refused((*frame[:5], bytes(4097)), body_bytes_max=1 << 20)
    assert "4097 bytes, at most 4096" in message


def frames_of(name: str) -> st.SearchStrategy[Frame]:
    """All valid frames of a type."""
    field = {
        "not": st.just(0),
        "must": st.integers(1, 0xFFFFFFFF),
        "may": st.integers(0, 0xFFFFFFFF),
    }
    target, id, value = FIELDS[name]
    body = st.just(b"")
    if name in ("REQUEST", "REPLY", "ERROR", "GOODBYE", "PIECE"):
        body = st.binary(max_size=200)
    elif name in ("HELLO", "NAME", "ORDER", "METADATA"):
        body = st.binary(min_size=32, max_size=200)
    return st.tuples(
        st.just(KINDS[name]),
        st.integers(0, 1) if KINDS[name] in WITH_A_FLAG else st.just(0),
        field[target].map(lambda n: min(n, 65535)),
        field[id],
        field[value],
        body,
    )


FRAMES = st.one_of([frames_of(name) for name in KINDS])


@given(st.lists(FRAMES, max_size=12), st.randoms(use_true_random=False))
def test_any_frames_survive_encoding_and_any_cutting(
    frames: list[Frame], source: random.Random
) -> None:
    data = b"".join(
        encode(kind, flags=flags, target=target, id=id, value=value, body=body)
        for kind, flags, target, id, value, body in frames
    )
    assert decode([data]) == frames
    cuts = sorted(source.choices(range(len(data) + 1), k=8))
    assert decode([data[a:b] for a, b in pairwise([0, *cuts, len(data)])]) == frames


@given(st.binary(max_size=400))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        whole: list[Frame] | None = decode([data])
    except ProtocolError:
        whole = None
    try:
        single: list[Frame] | None = decode([data[i : i + 1] for i in range(len(data))])
    except ProtocolError:
        single = None
    assert whole == single


def test_mutated_frames_never_crash_the_decoder() -> None:
    attack(once, seed=1, inputs=4000)
