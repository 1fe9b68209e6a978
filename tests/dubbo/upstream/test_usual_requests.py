"""Usual JSON calls to a provider: the same request as by the way that takes any call.

A member of another name, which nobody reads, keeps a call off the short way.
"""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any

import pytest

from dragoman.dubbo.upstream.encode_request import Requests
from dragoman.dubbo.upstream.signatures import remembered_signatures
from dragoman.errors import DragomanError
from dragoman.wire.json.usual_call import usual_call

NAMES = b"com.example.Sums\0add\0\0\0"
JSON = 1
IN_HESSIAN2 = Requests("hessian2", group="blue", version="1.0", path="under/", token="t")
OTHERS = [
    Requests("fastjson", group="blue", version="1.0", path="under/", token="t"),
    Requests("fastjson-lengths"),
]


def made(
    call: bytes, names: bytes = NAMES, requests: Requests = IN_HESSIAN2
) -> tuple[bytes, bytes] | str:
    """The request and what it asked for, or why there is none."""
    try:
        return requests.make_asked(JSON, names + call, 500)
    except DragomanError as error:
        return f"{type(error).__name__}: {error}"


def otherwise(call: bytes) -> bytes:
    """The same call, not usual any more."""
    at = call.rindex(b"}")
    return call[:at] + b',"unread":0' + call[at:]


def check(call: bytes, names: bytes = NAMES) -> tuple[bytes, bytes] | str:
    slow = otherwise(call)
    assert usual_call(slow) is None
    for other in OTHERS:
        assert made(call, names, other) == made(slow, names, other)
    result = made(call, names)
    assert result == made(slow, names)
    return result


VALUES = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-0.0",
    b"1",
    b"-1",
    b"47",
    b"48",
    b"-17",
    b"2047",
    b"262143",
    b"2147483647",
    b"2147483648",
    b"-2147483648",
    b"-2147483649",
    b"999999999999999999",
    b"1000000000000000000",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"0.1",
    b"1.5",
    b"1e3",
    b"1E400",
    b"123456789012345678901234567890.5",
    b"0.30000000000000004",
    b"5e-324",
    b"179769313486231570000000000000000000000",
    b"0.000000000000000000000000000000000001",
    b'""',
    b'"a"',
    b'"1"',
    b'"NaN"',
    b'"\\n\\"\\\\"',
    b'"\\u0000"',
    b'"caf\xc3\xa9"',
    b'"\xf0\x9f\x98\x80"',
    b'"\\ud83d\\ude00"',
    b'"\\ud800"',
    b'"\\udc00x"',
    b"[]",
    b"[1,[2.5]]",
    b"{}",
    b'{"a":{"class":"com.example.User","n":1}}',
    b'{"class":"java.lang.Object"}',
    b'{"a":[{"$ref":"$"}]}',
    b'{"\\u0024ref":"$"}',
    b"[1,\n 2]",
    b'"2026-01-02"',
]
TYPES = [
    "java.lang.String", "String", "int", "java.lang.Integer", "long", "java.lang.Long", "double",
    "java.lang.Double", "float", "short", "byte", "char", "boolean", "java.lang.Boolean",
    "java.lang.Object", "java.util.Map", "java.util.List", "java.util.List<java.lang.Long>",
    "java.lang.CharSequence", "java.math.BigDecimal", "java.util.Date", "long[]", "int[][]", "J",
    "[Ljava.lang.String;", "com.example.User", "java.util.List<com.example.User>", "void", "", "<",
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_every_value_of_every_type_makes_the_same_request_or_the_same_complaint(kind: str) -> None:
    for value in VALUES:
        check(b'{"types":["%b"],"args":[%b]}' % (kind.encode(), value))
        check(b'{"types":["%b","com.example.User"],"args":[%b,{"a":0.5}]}' % (kind.encode(), value))


@pytest.mark.parametrize("value", VALUES)
def test_types_are_guessed_alike(value: bytes) -> None:
    check(b'{"args":[%b]}' % value)
    check(b'{"args":[1,%b,"x"],"envelope":true}' % value)


def test_what_a_call_asks_for_and_its_names_are_the_same() -> None:
    check(b'{"args":[]}')
    check(b'{"types":["int"],"args":[]}')
    check(b'{"types":[],"args":[1]}')
    check(b'{"args":["x"],"oneway":true,"class":true,"envelope":true,"group":"g","version":"9"}')
    check(b'{"args":["x"]}', b"a.B\0m\xff\0\0\0")
    check(b'{"types":["a.B"],"args":[{}]}', b"a.B\0m\xff\0\0\0")
    check(b'{"args":["x"]}', b"a.B\0\0\0\0")
    assert isinstance(made(b'{"args":["x"]}', b"a.B\0m\0"), str)


@pytest.mark.parametrize(
    "attachments",
    [
        {},
        {"a": "b"},
        {"timeout": "9"},
        {"_TO": "9", "x": ""},
        {"generic": "x"},
        {"path": "y"},
        {"@type": "x"},
        {"$ref": "x", "a": "b"},
    ],
)
def test_attachments_are_the_same(attachments: dict[str, str]) -> None:
    for kind in ("java.util.Map", "com.example.User"):
        call = {"types": [kind], "args": [{"a": 1}], "attachments": attachments}
        check(json.dumps(call).encode())
    check(b'{"args":[],"attachments":{"a":"1","a":"2"}}')


FIELDS = {"com.example.User": {"born": "java.util.Date", "big": "java.math.BigDecimal"}}


@pytest.mark.parametrize(
    "fields", [FIELDS, {}, {"com.example.User": {"born": "<"}}, {"a": 1}, {"a": {"b": None}}]
)
def test_fields_that_are_declared_are_fitted_alike(fields: Any) -> None:
    user = {"born": "2026-01-02T03:04:05Z", "big": 1.10, "name": "x"}
    for types in (["com.example.User"], ["java.util.Map"], ["java.util.List<com.example.User>"]):
        for args in ([user], [[user]], [{}]):
            call = {"types": types, "args": args, "fields": fields}
            check(json.dumps(call).encode())


def test_strings_of_every_length_are_the_same() -> None:
    for length in (*range(81), 1023, 1024, 32767, 32768, 32769, 70_000):
        for character in ("a", "é", "€", "😀", '"', "\u0001"):
            for ascii in (True, False):
                text = json.dumps("x" * (length % 3) + character * length, ensure_ascii=ascii)
                check(b'{"types":["java.lang.String"],"args":[%b]}' % text.encode())


def test_random_numbers_are_the_same() -> None:
    rng = random.Random(12)
    for _ in range(3_000):
        number: float = rng.uniform(-1, 1) * 10 ** rng.randrange(-12, 15)
        if rng.random() < 0.5:
            number = rng.randrange(-(1 << rng.randrange(1, 70)), 1 << rng.randrange(1, 70))
        text = repr(number).encode()
        for kind in (b"int", b"long", b"double", b"java.lang.Double"):
            check(b'{"types":["%b"],"args":[%b]}' % (kind, text))


def test_a_refused_call_leaves_nothing_behind_and_the_next_is_whole() -> None:
    good = b'{"types":["java.util.Map"],"args":[{"a":[1]}]}'
    expected = made(good)
    for bad in (b'{"types":["int"],"args":["x"]}', b'{"types":["a.B","int"],"args":[{},"x"]}'):
        assert "args[" in str(made(bad))
        assert made(good) == expected


def test_signatures_of_hostile_callers_are_bounded() -> None:
    """In number, in bytes of their keys, and so in memory; long ones are not kept at all."""

    def call(name: str, fields: Any = None) -> None:
        body: dict[str, Any] = {"types": [name], "args": [{}]}
        if fields is not None:
            body["fields"] = fields
        assert not isinstance(made(json.dumps(body).encode()), str)

    tracemalloc.start()
    try:
        for number in range(5_000):
            call(f"com.example.Of{number}")
            assert remembered_signatures()[0] <= 1024
        before = remembered_signatures()
        call("com.example." + "x" * 4000, {"y" * 100: {}})
        call("com.example.Y", {f"c{n}": {} for n in range(1000)})
        assert remembered_signatures() == before
        for number in range(400):
            call("com.example.Z", {f"c{number}.{n}": {} for n in range(200)})
            assert remembered_signatures()[1] <= 262_144
        assert tracemalloc.get_traced_memory()[0] < 12_000_000
    finally:
        tracemalloc.stop()


def test_what_is_refused_is_not_remembered() -> None:
    before = remembered_signatures()
    for name in ("void", "<", "a.B>"):
        assert isinstance(made(b'{"types":["%b"],"args":[1]}' % name.encode()), str)
    assert remembered_signatures() == before
