"""Random bytes against the Dubbo decoders.

Invariant: whatever the bytes and however they are cut, frames and verdict are the same; a body is
read or refused with a ProtocolError; what passes as JSON is what Python's ``json`` reads; every
text that comes out is UTF-8; nothing else is raised and nothing takes 100 ms.

    python -m fuzz.dubbo --seconds 600 --seed 1
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable

from tests.calibration import too_many_pieces

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire import hessian2
from dragoman.wire.dubbo import fastjson
from dragoman.wire.dubbo import frame as dubbo
from dragoman.wire.dubbo.event import event_name
from dragoman.wire.java.descriptor import count_parameters
from dragoman.wire.json import loose as jsonloose
from dragoman.wire.json import string as jsonstring
from dragoman.wire.json import text as jsontext
from fuzz.running import main

# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 25

BODIES = [
    b'"2.0.1"\n"a.B"\nnull\n"m"\n"Ljava/lang/String;"\n"abc"\n{"path":"a.B"}\n',
    b'\0\0\0\x07"2.0.1"\0\0\0\x05"a.B"\0\0\0\x04null\0\0\0\x03"m"\0\0\0\x03"I"\0\0\0\x011\0\0\0\x02{}',
    b"1\n96354\n",
    b"2\n",
    b'0\n{"@type":"a.B","message":"no"}\n',
    b'4\n[1,{"a":null}]\n{"k":"v"}\n',
    b"\0\0\0\x011\0\0\0\x0596354",
    b"null\n",
    b"N",
    b"\x01R",
    b'"R"\n',
    b"\x05h\xc3\xa9llo",
    b'"why"\n',
    rb'"\u00e9\ud83d\ude00\ud800\n"',
    b'{"a":[1,-2.5e+3,true,false,null,"x"],"b":{}}',
    b'{1:{true:"1:2"},-2:[{null:3}]}',
    b"R\x00\x02ab\x01c",
    b"S\x00\x03abc",
    b"Ljava/lang/String;[[ILa/b$C;",
]
PIECES = [
    b"\xda\xbb",
    b"\n",
    b"\r\n",
    b"\0",
    b"\0\0\0",
    b'"',
    b"\\",
    rb"\u",
    rb"\ud800",
    rb"\udc00",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"1",
    b"9",
    b"-",
    b".",
    b"e",
    b"null",
    b"true",
    b"false",
    b"\x80",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xff",
    b" ",
    b'"@type"',
    b"L",
    b";",
    b"/",
    b"[" * 130,
    b"9" * 1030,
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
                data[at] = source.randrange(256)
            case 3 if at < len(data):
                data[at] ^= 1 << source.randrange(8)
            case 4:
                length = source.randrange(1, 20)
                data[at:at] = data[at : at + length]
            case 5:
                data[at : at + source.randrange(4)] = source.choice(PIECES)
    return bytes(data)


def stream(source: random.Random) -> bytes:
    """A few frames, changed."""
    frames = bytearray()
    for _ in range(source.randrange(1, 4)):
        frames += dubbo.encode_frame(
            source.getrandbits(64),
            source.choice(BODIES),
            request=source.random() < 0.5,
            two_way=source.random() < 0.5,
            event=source.random() < 0.2,
            serialization=source.choice((2, 6, 6, source.randrange(32))),
            status=source.choice((20, 20, 100, source.randrange(256))),
        )
    return mutate(source, frames)


def decode(pieces: list[bytes]) -> tuple[list[dubbo.DubboFrame], str | None]:
    """The frames and the verdict."""
    decoder = dubbo.DubboDecoder(payload_bytes_max=500)
    frames: list[dubbo.DubboFrame] = []
    for piece in [*pieces, b""]:
        decoder.receive_data(piece)
        try:
            frames += decoder.frames()
        except ProtocolError as error:
            return frames, str(error)[:20]
    return frames, None


def check_stream(data: bytes, source: random.Random) -> None:
    """However it is cut, the same comes out."""
    whole = decode([data])
    assert decode([data[i : i + 1] for i in range(len(data))]) == whole
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(5)))
    places = [0, *cuts, len(data)]
    assert decode([data[a:b] for a, b in itertools.pairwise(places)]) == whole
    for frame in whole[0]:
        event_name(frame.body)
        dubbo.reply_error_text(frame.serialization, frame.body).encode()


def accepted(read: Callable[[bytes], bytes], data: bytes) -> bytes | None:
    """The result of ``read`` on ``data``, None if it refuses."""
    try:
        return read(data)
    except UsageError:
        return None


def python_reads(text: bytes) -> bool:
    """Whether Python's json takes it."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text.decode(), parse_constant=refuse, parse_int=str, parse_float=str)
    except ValueError:
        return False
    return not text.startswith(b"\xef\xbb\xbf")


def check_body(data: bytes) -> None:
    """Each reader takes it as it should, or refuses it."""
    try:
        reply = fastjson.decode_reply(data)
    except ProtocolError:
        pass
    else:
        assert python_reads(reply.value), reply
        if reply.kind == "exception":
            fastjson.describe_exception(reply.value).encode()
    try:
        request = fastjson.decode_request(data)
    except ProtocolError:
        pass
    else:
        assert count_parameters(request.descriptor) == len(request.arguments)
        assert all(python_reads(argument) for argument in request.arguments)
    try:
        jsontext.check_value(data)
    except UsageError as error:
        bounded = "deep" in str(error) or "too long" in str(error)
        assert bounded or not python_reads(data), data
    else:
        assert python_reads(data), data
        jsontext.names_a_type(data)
    strict = accepted(jsonloose.strict, data)
    if strict is not None:
        assert python_reads(strict), data
    text = accepted(jsonstring.decode_string, data)
    if text is not None:
        assert text.decode() == json.loads(data), data
    text = accepted(hessian2.decode_string, data)
    if text is not None:
        assert hessian2.decode_string(hessian2.encode_string(text)) == text, data
    quoted = accepted(jsonstring.encode_string, data)
    if quoted is not None:
        assert json.loads(quoted) == data.decode(), data
        assert b"\n" not in quoted
    try:
        count_parameters(data)
    except UsageError:
        pass
    else:
        assert not set(data) & set(b'"\\\n'), data


def check(source: random.Random) -> int:
    """One input for the frames and one for the bodies: two."""
    start = time.thread_time()
    check_stream(stream(source), source)
    check_body(mutate(source, bytearray(source.choice(BODIES))))
    assert not too_many_pieces(time.thread_time() - start, PIECES_MAX), "too slow"
    return 2


if __name__ == "__main__":
    main(lambda seed: check(random.Random(seed)), __doc__)
