"""Random calls and replies against what makes Dubbo of the mesh, and back.

Invariant: whatever the bytes, a request is one whole frame or a UsageError; what a provider of
hessian2, fastjson or fastjson2 is sent is read as such; a reply is an answer or an error's code
with a line of text; answers are JSON where JSON was asked for, and whole bodies of hessian2 where
these were; nothing else is raised and nothing takes 100 ms.

    python -m fuzz.calls --seconds 600 --seed 1
"""

from __future__ import annotations

import contextlib
import json
import random
import struct
import time
from typing import Any

from tests.calibration import too_many_pieces

from dragoman.dubbo.upstream.decode_reply import Replies
from dragoman.dubbo.upstream.encode_request import SERIALIZATIONS, Requests
from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.dubbo import fastjson
from dragoman.wire.dubbo.frame import DubboDecoder
from dragoman.wire.dubbo.invocation import (
    FASTJSON,
    FASTJSON2,
    HESSIAN2,
    decode_reply,
    decode_request,
    encode_reply,
)
from dragoman.wire.hessian2 import encode
from dragoman.wire.java import Bean
from fuzz.dubbo import mutate
from fuzz.running import main

# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 25

DESCRIPTOR = b"Ljava/lang/String;J"
ARGUMENTS = encode("a", 1, types=DESCRIPTOR.decode())
METHODS = (b"form", b"json", b"attachments", b"hessian2", b"hessian2-oneway")
CALLS = [
    {"args": ["a", 1, 1.5, None, True, [1], {"k": "v"}]},
    {"types": ["long", "double", "java.util.Date"], "args": [1, 2, "2026-01-02T03:04:05Z"]},
    {"types": ["java.util.Map<Integer, java.util.List<Long>>"], "args": [{"1": [2]}]},
    {"types": ["a.Order", "a.Color", "byte[]"], "args": [{"n": 1}, "RED", "AQI="]},
    {"types": ["a.Order[]"], "args": [[{"class": "a.B", "n": 1.5}]], "generic": False},
    {"types": ["java.math.BigDecimal"], "args": [1.10], "attachments": {"a": "b\r\n"}},
    {"args": [1], "generic": "gson", "envelope": True, "oneway": True, "class": True},
]
ATTACHMENTS = (
    "path",
    "interface",
    "version",
    "group",
    "token",
    "timeout",
    "dubbo",
    "",
    "k\0\n",
    "é",
)
FORMS = [
    b"interface=a.B&method=m&parameterTypesString=Ljava%2Flang%2FString%3B&parameter=a+b",
    b"interface=a.B&method=m&parameterTypesString=I&parameter=1",
    b"interface=a.B&method=m&parameterTypesString=&parameter=",
]
BEAN = Bean("a.B", n=1, inner=Bean("a.C", s="x"), many=[1.5, None, {"k": b"\x01"}])
REPLIES = [
    encode(1, 7),
    encode(1, "text"),
    encode(4, BEAN, {"k": "v"}),
    encode(2),
    encode(5, {"a": "b"}),
    encode(0, Bean("x.Y", detailMessage="why", cause=None, stackTrace=[])),
    encode(1, [BEAN, BEAN, {1: 2}, True, 1 << 40]),
    encode(1, '{"a":1}'),
    b"1\n96354\n",
    b'1\n{"class":"a.B","x":[{"class":"c"}]}\n',
    b'4\n{1:"a"}\n{"k":"v"}\n',
    b'0\n{"@type":"x.Y","message":"no"}\n',
    b"\0\0\0\x011\0\0\0\x0596354",
    b'1\n"{\\"a\\":1}"\n',
    encode_reply("text", serialization=FASTJSON2),
    encode_reply([BEAN, BEAN], attachments={"k": "v"}, serialization=FASTJSON2),
    encode_reply('{"a":1}', serialization=FASTJSON2),
    encode_reply(exception=Bean("x.Y", detailMessage="why", cause=None), serialization=FASTJSON2),
]


def with_attachments(source: random.Random) -> bytes:
    """A JSON call with attachments, some under names that are the call's own."""
    attachments = {
        source.choice(ATTACHMENTS): source.choice(
            (*ATTACHMENTS, "x" * 5000, 1, None, [1], {"a": 1})
        )
        for _ in range(source.choice((0, 1, 5, 300)))
    }
    return json.dumps({"args": ["a"], "attachments": attachments}).encode()


def request(source: random.Random) -> tuple[bytes, bytes]:
    """A mesh method and a body for it, changed."""
    method = source.choice(METHODS)
    if method == b"form":
        return method, mutate(source, bytearray(source.choice(FORMS)))
    names = b"a.B\0m\0\0\0"
    if method == b"attachments":
        return b"json", names + with_attachments(source)
    if method == b"json":
        return method, mutate(source, bytearray(names + json.dumps(source.choice(CALLS)).encode()))
    length = struct.pack(">I", len(ARGUMENTS))
    tail = source.choice((b"", b"N", b"HZ", b"H\x01k\x01vZ"))
    return method, mutate(source, bytearray(names + DESCRIPTOR + b"\0" + length + ARGUMENTS + tail))


def check_request(source: random.Random, makers: list[Requests]) -> None:
    """One request, for a provider of each serialization."""
    method, body = request(source)
    for maker in makers:
        try:
            made = maker.make(method, 7, body)
        except UsageError:
            continue
        decoder = DubboDecoder()
        decoder.receive_data(made)
        (frame,) = decoder.frames()
        assert (frame.is_request, frame.is_event, frame.id) == (True, False, 7)
        assert frame.serialization == maker.serialization
        if not method.startswith(b"hessian2"):
            # Else arguments are passed on as they come, and the provider has to read them.
            if frame.serialization == FASTJSON:
                fastjson.decode_request(frame.body)
                continue
            read = decode_request(frame.body, frame.serialization)
            assert read.attachments["path"] == read.path
            if body.startswith(b"a.B\0"):
                # Whatever the caller attaches, the call's own are not its to say.
                assert read.path == "a.B"


def check_reply(source: random.Random, replies: Replies) -> None:
    """One reply, in every way that it may be asked for."""
    body = mutate(source, bytearray(source.choice(REPLIES)))
    named = (HESSIAN2, HESSIAN2, FASTJSON, FASTJSON, FASTJSON2, FASTJSON2)
    serialization = source.choice((*named, source.randrange(32)))
    wants: dict[str, Any] = {
        name: source.random() < 0.3 for name in ("envelope", "class_names", "generic", "gson")
    }
    for answer in ("text", "json", "body"):
        code, made = replies.give(serialization, body, answer=answer, **wants)
        if code != 0:
            assert isinstance(made, str) and "\n" not in made, made
            assert len(made.encode("utf-8", "replace")) < 10_000
            continue
        assert isinstance(made, bytes)
        if answer == "text":
            made.decode()
        elif answer == "json":
            json.loads(made.decode())
        elif serialization in (FASTJSON, FASTJSON2):
            decode_reply(made, HESSIAN2)
    with contextlib.suppress(ProtocolError):
        decode_reply(body, serialization)
    with contextlib.suppress(ProtocolError):
        decode_request(body, serialization)


MAKERS = [Requests(name) for name in SERIALIZATIONS]
READER = Replies()


def check(source: random.Random) -> None:
    """One request and one reply."""
    start = time.thread_time()
    check_request(source, MAKERS)
    check_reply(source, READER)
    assert not too_many_pieces(time.thread_time() - start, PIECES_MAX), "too slow"


if __name__ == "__main__":
    main(lambda seed: check(random.Random(seed)), __doc__)
