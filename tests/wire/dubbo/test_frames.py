"""Dubbo frames, each case whole, a byte at a time, split everywhere, and with bytes after it."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.dubbo.event import encode_heartbeat, encode_readonly, event_name
from dragoman.wire.dubbo.frame import (
    DubboDecoder,
    DubboFrame,
    Serialization,
    Status,
    encode_error_reply,
    encode_frame,
    reply_error_text,
)
from tests.wire.pieces import ways

FRAMES = st.builds(
    DubboFrame,
    is_request=st.booleans(),
    two_way=st.booleans(),
    is_event=st.just(False),
    serialization=st.integers(0, 31),
    status=st.integers(0, 255),
    id=st.integers(0, 2**64 - 1),
    body=st.binary(max_size=60),
)


def encode(frame: DubboFrame) -> bytes:
    return encode_frame(
        frame.id,
        frame.body,
        request=frame.is_request,
        two_way=frame.two_way,
        event=frame.is_event,
        serialization=frame.serialization,
        status=frame.status,
    )


def header(flags: int, status: int, id: int, length: int, magic: int = 0xDABB) -> bytes:
    return struct.pack(">HBBQI", magic, flags, status, id, length)


def decode(pieces: list[bytes], **options: int) -> list[DubboFrame]:
    decoder = DubboDecoder(**options)
    frames = []
    for piece in pieces:
        decoder.receive_data(piece)
        frames += decoder.frames()
    return frames


@given(st.lists(FRAMES, max_size=4), st.lists(st.integers(0, 400), max_size=6))
def test_frames_come_back_however_they_are_cut(frames: list[DubboFrame], cuts: list[int]) -> None:
    stream = b"".join(encode(frame) for frame in frames)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert decode(pieces) == frames
    assert decode([stream[i : i + 1] for i in range(len(stream))]) == frames


@pytest.mark.parametrize("status", [*Status, 0, 255])
@pytest.mark.parametrize("serialization", [2, 6, 31])
def test_every_status_comes_through(status: int, serialization: int) -> None:
    frame = DubboFrame(False, False, False, serialization, status, 2**63 + 5, b'"why"\n')
    for pieces in ways(encode(frame) * 2):
        assert decode(pieces) == [frame, frame]


@pytest.mark.parametrize("flags", range(0, 256, 32))
def test_every_flag_comes_through(flags: int) -> None:
    frame = decode([header(flags | 6, 20, 9, 4) + b"null"])[0]
    assert (frame.is_request, frame.two_way, frame.is_event) == (
        bool(flags & 0x80),
        bool(flags & 0x40),
        bool(flags & 0x20),
    )
    assert encode(frame) == header(flags | 6, 20, 9, 4) + b"null"


def test_every_serialization_id_comes_through() -> None:
    for id in range(32):
        assert decode([header(0x80 | id, 0, 1, 0)])[0].serialization == id
    assert Serialization.FASTJSON == 6


def test_a_frame_cut_short_gives_nothing() -> None:
    frame = encode_frame(1, b"x" * 50, request=True)
    for length in range(len(frame)):
        assert decode([frame[:length]]) == []
        assert decode([frame[i : i + 1] for i in range(length)]) == []


@pytest.mark.parametrize("magic", [0x0000, 0xDABA, 0xBBDA, 0xFFFF, 0x4745])
def test_a_wrong_magic_ends_it_for_good(magic: int) -> None:
    good = encode_frame(1, b"ok")
    for pieces in ways(good + header(6, 20, 2, 0, magic=magic) + good):
        decoder = DubboDecoder()
        frames = []
        with pytest.raises(ProtocolError, match="must begin with da bb"):
            for piece in [*pieces, b""]:
                decoder.receive_data(piece)
                frames += decoder.frames()
        assert [frame.id for frame in frames] == [1]
        decoder.receive_data(good)
        with pytest.raises(ProtocolError):
            decoder.frames()


def test_a_wrong_first_byte_is_seen_at_once() -> None:
    decoder = DubboDecoder()
    decoder.receive_data(b"H")
    with pytest.raises(ProtocolError):
        decoder.frames()
    decoder = DubboDecoder()
    decoder.receive_data(b"\xda")
    assert decoder.frames() == []
    decoder.receive_data(b"\xda")
    with pytest.raises(ProtocolError):
        decoder.frames()


@pytest.mark.parametrize(
    ("length", "says"),
    [(2**32 - 1, "negative"), (2**31, "negative"), (2**31 - 1, "at most"), (101, "at most 100")],
)
def test_a_bad_length_is_refused_before_anything_is_held(length: int, says: str) -> None:
    for pieces in ways(header(0x86, 0, 1, length)):
        decoder = DubboDecoder(payload_bytes_max=100)
        with pytest.raises(ProtocolError, match=says):
            for piece in pieces:
                decoder.receive_data(piece)
                decoder.frames()
        assert decoder.buffered_bytes < 40000


def test_the_limit_itself_is_allowed() -> None:
    assert decode([encode_frame(1, b"x" * 100)], payload_bytes_max=100)[0].body == b"x" * 100
    assert decode([encode_frame(1, b"")], payload_bytes_max=0)[0].body == b""


def test_memory_follows_what_came_not_what_is_claimed() -> None:
    decoder = DubboDecoder()
    decoder.receive_data(header(0x86, 0, 1, 8 * 1024 * 1024) + b"x" * 10)
    assert decoder.frames() == []
    assert decoder.buffered_bytes <= 16384
    decoder.receive_data(b"x" * 100_000)
    assert decoder.frames() == []
    assert decoder.buffered_bytes <= 200_100


@pytest.mark.parametrize("piece", [1000, 65536, 2**20])
def test_a_big_body_arrives_in_pieces_and_its_memory_goes(piece: int) -> None:
    body = bytes(range(256)) * 4096
    stream = encode_frame(3, body) + encode_frame(4, b"after")
    decoder = DubboDecoder()
    frames = []
    for at in range(0, len(stream), piece):
        decoder.receive_data(stream[at : at + piece])
        frames += decoder.frames()
    assert [(frame.id, frame.body) for frame in frames] == [(3, body), (4, b"after")]
    assert decoder.buffered_bytes <= 65536


def test_bytes_received_before_the_rest_was_read_are_kept() -> None:
    stream = encode_frame(1, b"a") + encode_frame(2, b"b")
    decoder = DubboDecoder()
    decoder.receive_data(stream[:10])
    decoder.receive_data(stream[10:25])
    decoder.receive_data(stream[25:])
    assert [frame.id for frame in decoder.frames()] == [1, 2]


@pytest.mark.parametrize("payload_bytes_max", [-1, 2**31])
def test_a_limit_out_of_range_is_refused(payload_bytes_max: int) -> None:
    with pytest.raises(UsageError, match="payload_bytes_max"):
        DubboDecoder(payload_bytes_max=payload_bytes_max)


def test_an_event_may_have_fifteen_bytes_and_no_more() -> None:
    assert decode([header(0xE2, 0, 1, 15) + b"x" * 15])[0].is_event
    for pieces in ways(header(0xE2, 0, 1, 16) + b"x" * 16):
        with pytest.raises(ProtocolError, match="event of 16 bytes"):
            decode(pieces)


def test_heartbeats_have_the_golden_bytes() -> None:
    assert encode_heartbeat(5) == bytes.fromhex("dabbe200 0000000000000005 00000001 4e")
    assert encode_heartbeat(5, serialization=6) == bytes.fromhex(
        "dabbe600 0000000000000005 00000005 6e756c6c0a"
    )


def test_the_readonly_event_has_the_golden_bytes() -> None:
    assert encode_readonly(1) == bytes.fromhex("dabba200 0000000000000001 00000002 0152")
    assert encode_readonly(1, serialization=6) == bytes.fromhex(
        "dabba600 0000000000000001 00000004 2252220a"
    )


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"N", "heartbeat"),
        (b"null", "heartbeat"),
        (b"null\n", "heartbeat"),
        (b"null\r\n", "heartbeat"),
        (b"", "heartbeat"),
        (b"\0\0\0\x04null", "heartbeat"),
        (b"\xaf", "heartbeat"),
        (b"\0\0\0\x01\xaf", "heartbeat"),
        (b"\xac\xed\x00\x05p", "heartbeat"),
        (b"\x01R", "readonly"),
        (b'"R"', "readonly"),
        (b'"R"\n', "readonly"),
        (b'\0\0\0\x03"R"', "readonly"),
        (b"\x4aR", "readonly"),
        (b"S\0\x01R", "readonly"),
        (b"\x01W", "writable"),
        (b'"W"\n', "writable"),
        (b"\x01X", None),
        (b"T", None),
        (b"nul", None),
        (b"R", None),
        (b"\0\0\0\x05null", None),
        (b'"RR"', None),
    ],
)
def test_events_are_told_apart(body: bytes, name: str | None) -> None:
    assert event_name(body) == name


@pytest.mark.parametrize("serialization", [2, 6])
def test_an_error_reply_says_its_text(serialization: int) -> None:
    text = 'Thread pool is "EXHAUSTED"!\n\té€\U0001f600'
    frame = decode([encode_error_reply(8, 100, text.encode(), serialization=serialization)])[0]
    assert (frame.id, frame.status, frame.serialization) == (8, 100, serialization)
    assert reply_error_text(serialization, frame.body) == 'Thread pool is "EXHAUSTED"! é€\U0001f600'


def test_a_rejection_has_the_golden_bytes() -> None:
    assert encode_error_reply(3, 100, b"full") == bytes.fromhex(
        "dabb0664 0000000000000003 00000007 2266756c6c220a"
    )
    assert encode_error_reply(3, 100, b"full", serialization=2) == bytes.fromhex(
        "dabb0264 0000000000000003 00000005 0466756c6c"
    )


@pytest.mark.parametrize("serialization", [2, 6, 3, 31])
def test_an_error_text_that_nobody_reads_is_counted(serialization: int) -> None:
    assert "7 bytes" in reply_error_text(serialization, b"\xff" * 7)
    assert "bytes" in reply_error_text(serialization, b"")
    assert "1000000 bytes" in reply_error_text(serialization, b"x" * 1_000_000)


def test_an_error_text_with_a_length_in_front_is_read() -> None:
    assert reply_error_text(6, b'\0\0\0\x05"abc"') == "abc"


def test_an_error_text_that_is_no_utf8_is_refused() -> None:
    for serialization in (2, 6):
        with pytest.raises(UsageError):
            encode_error_reply(1, 70, b"\xff", serialization=serialization)
