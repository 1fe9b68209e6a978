"""The fastjson bodies of requests and replies."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.dubbo import fastjson
from dragoman.wire.dubbo.frame import DubboDecoder

INTERFACE = b"com.alibaba.dubbo.performance.demo.provider.IHelloService"
STRING = b"Ljava/lang/String;"
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def body_of(stream: bytes) -> bytes:
    decoder = DubboDecoder()
    decoder.receive_data(stream)
    (frame,) = decoder.frames()
    return frame.body


def with_lengths(body: bytes) -> bytes:
    """The same fields in the other wire form."""
    fields = body.removesuffix(b"\n").split(b"\n")
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def test_the_contests_request_has_the_golden_bytes() -> None:
    stream = fastjson.encode_request(1, INTERFACE, b"hash", STRING, text=b"abc")
    body = (
        b'"2.0.1"\n"com.alibaba.dubbo.performance.demo.provider.IHelloService"\nnull\n"hash"\n'
        b'"Ljava/lang/String;"\n"abc"\n'
        b'{"path":"com.alibaba.dubbo.performance.demo.provider.IHelloService"}\n'
    )
    assert (
        stream == bytes.fromhex("dabbc600 0000000000000001") + len(body).to_bytes(4, "big") + body
    )


def test_the_contests_reply_has_the_golden_bytes() -> None:
    assert fastjson.encode_int_reply(1, 96354) == (
        bytes.fromhex("dabb0614 0000000000000001 00000008") + b"1\n96354\n"
    )


def test_group_and_version_have_the_golden_bytes() -> None:
    stream = fastjson.encode_request(
        2**64 - 1,
        b"a.B",
        b"m",
        b"ILjava/util/Map;",
        arguments=[b"1", b'{\n  "k": [null]\r\n}'],
        version=b"2.0.2",
        service_version=b"1.2.3",
        group=b"blue",
        attachments=b'"timeout":"500"',
    )
    body = (
        b'"2.0.2"\n"a.B"\n"1.2.3"\n"m"\n"ILjava/util/Map;"\n1\n{   "k": [null]  }\n'
        b'{"path":"a.B","version":"1.2.3","group":"blue","timeout":"500"}\n'
    )
    assert (
        stream == bytes.fromhex("dabbc600 ffffffffffffffff") + len(body).to_bytes(4, "big") + body
    )


def test_a_call_without_arguments_has_the_golden_bytes() -> None:
    body = body_of(fastjson.encode_request(1, b"a.B", b"now", b""))
    assert body == b'"2.0.1"\n"a.B"\nnull\n"now"\n""\n{"path":"a.B"}\n'


def test_an_exception_has_the_golden_bytes() -> None:
    body = body_of(fastjson.encode_exception_reply(1, b"a.E", b"no\n"))
    assert body == b'0\n{"@type":"a.E","message":"no\\n","stackTrace":[]}\n'


@given(TEXT)
def test_any_text_stays_one_line_and_one_string(text: str) -> None:
    body = body_of(fastjson.encode_request(1, INTERFACE, b"hash", STRING, text=text.encode()))
    lines = body.split(b"\n")
    assert len(lines) == 8
    assert json.loads(lines[5]) == text
    assert fastjson.decode_request(body).arguments == (lines[5],)
    assert fastjson.decode_request(with_lengths(body)) == fastjson.decode_request(body)


@pytest.mark.parametrize(
    "text", ['"@type"', '{"@type":"com.x.Y"}', "a\nb", 'a"', "\\", "\u2028", "\U0001f600", "\0"]
)
def test_a_text_is_never_markup(text: str) -> None:
    body = body_of(fastjson.encode_request(1, INTERFACE, b"hash", STRING, text=text.encode()))
    assert json.loads(body.split(b"\n")[5]) == text


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1]))
def test_json_arguments_come_through(values: list[object], indent: int | None) -> None:
    given_ = [json.dumps(value, indent=indent).encode() for value in values]
    stream = fastjson.encode_request(
        1,
        b"a.B",
        b"call",
        b"Ljava/lang/Object;" * len(values),
        arguments=given_,
        service_version=b"1.0",
        group=b"g\n1",
        attachments=b'"timeout":"500",\n"n":{}',
    )
    request = fastjson.decode_request(body_of(stream))
    assert [json.loads(argument) for argument in request.arguments] == values
    assert json.loads(request.service_version) == "1.0"
    assert json.loads(request.attachments) == {
        "path": "a.B",
        "version": "1.0",
        "group": "g\n1",
        "timeout": "500",
        "n": {},
    }


def test_a_megabyte_of_parameter_comes_through() -> None:
    text = 'a"é\n' * 262144
    request = fastjson.decode_request(
        body_of(fastjson.encode_request(1, INTERFACE, b"hash", STRING, text=text.encode()))
    )
    assert json.loads(request.arguments[0]) == text


def test_bad_utf8_is_refused_in_every_field() -> None:
    good = {"interface": b"a.B", "method": b"m", "descriptor": STRING, "text": b"x"}
    for field in ("interface", "method", "text", "version", "service_version", "group"):
        with pytest.raises(UsageError, match="UTF-8"):
            fastjson.encode_request(1, **{**good, field: b"\xed\xa0\x80"})  # type: ignore[arg-type]


def test_the_number_of_arguments_must_be_the_descriptors() -> None:
    with pytest.raises(UsageError, match="2 parameters"):
        fastjson.encode_request(1, b"a.B", b"m", b"II", arguments=[b"1"])
    with pytest.raises(UsageError, match="0 parameters"):
        fastjson.encode_request(1, b"a.B", b"m", b"", text=b"")
    with pytest.raises(UsageError, match="descriptor"):
        fastjson.encode_request(1, b"a.B", b"m", b"(I)", arguments=[b"1"])
    with pytest.raises(UsageError, match="JSON"):
        fastjson.encode_request(1, b"a.B", b"m", b"I", arguments=[b"1 2"])


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (b"1\n96354\n", ("value", b"96354", None)),
        (b"1\n96354", ("value", b"96354", None)),
        (b"1\r\n96354\r\n", ("value", b"96354", None)),
        (b"1\n null \n", ("value", b"null", None)),
        (b'1\n"x"\n\n', ("value", b'"x"', None)),
        (
            b'1\n{"@type":"com.x.Y","a":[1,{}]}\n',
            ("value", b'{"@type":"com.x.Y","a":[1,{}]}', None),
        ),
        (
            b'1\n{1:"a",-2.5 :{true:[{null:1}]}}\n',
            ("value", b'{"1":"a","-2.5" :{"true":[{"null":1}]}}', None),
        ),
        (b"2\n", ("null", b"null", None)),
        (b"2", ("null", b"null", None)),
        (b'0\n{"message":"no"}\n', ("exception", b'{"message":"no"}', None)),
        (b'3\n"no"\n{"a":"b"}\n', ("exception", b'"no"', b'{"a":"b"}')),
        (b'4\n1\n{"a":"b"}\n', ("value", b"1", b'{"a":"b"}')),
        (b"5\nnull\n", ("null", b"null", b"null")),
        (b"\0\0\0\x011\0\0\0\x0596354", ("value", b"96354", None)),
        (b"\0\0\0\x012", ("null", b"null", None)),
        (b"\0\0\0\x014\0\0\0\x011\0\0\0\x02{}", ("value", b"1", b"{}")),
    ],
)
def test_every_kind_of_reply_is_read(body: bytes, reply: tuple[str, bytes, bytes | None]) -> None:
    assert fastjson.decode_reply(body) == reply


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"1",
        b"1\n",
        b"6\n1\n",
        b"-1\n1\n",
        b"11\n1\n",
        b"x\n1\n",
        b'"1"\n1\n',
        b"1\n1 2\n",
        b"1\n1\n2\n",
        b"2\n1\n",
        b"4\n1\n",
        b"4\n1\n[]\n",
        b"1\n{\n}\n",
        b"1\nNaN\n",
        b"1\n{x:2}\n",
        b"1\n'x'\n",
        b'1\n"\xff"\n',
        b"\0\0\0\x011",
        b"\0\0\0\x011\0\0\0\x05123",
        b"\0\0\0",
        b"\0",
        b"\0\0\0\x011\0\0\0\x011x",
        b"\0\xff\xff\xff1",
        b"\0\0\0\x00",
        b"1\n" + b"[" * 200 + b"]" * 200,
        b"1\n" + b"9" * 5000,
        b"1\n\x00\n",
    ],
)
def test_a_malformed_reply_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        fastjson.decode_reply(body)


def test_a_reply_cut_anywhere_never_reads_as_another() -> None:
    body = b'4\n{"a":[1,2,"x"]}\n{"k":"v"}\n'
    for length in range(len(body) - 1):
        with pytest.raises(ProtocolError):
            fastjson.decode_reply(body[:length])
    body = with_lengths(body)
    for length in range(len(body)):
        with pytest.raises(ProtocolError):
            fastjson.decode_reply(body[:length])


def test_a_request_cut_anywhere_is_refused() -> None:
    body = body_of(
        fastjson.encode_request(1, b"a.B", b"m", STRING + b"I", arguments=[b'"x"', b"1"])
    )
    for whole in (body.removesuffix(b"\n"), with_lengths(body)):
        fastjson.decode_request(whole)
        for length in range(len(whole)):
            with pytest.raises(ProtocolError):
                fastjson.decode_request(whole[:length])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"2.0.1"', b"2"),
        (b'"a.B"', b"null"),
        (b'"m"', b"{}"),
        (b'"I"', b'"X"'),
        (b'"I"', b"null"),
        (b'"I"', b'"\\u0049"'),
        (b"\n7\n", b"\n7 7\n"),
        (b"\n7\n", b"\n"),
        (b"\n7\n", b"\n7\n7\n"),
        (b'{"path":"a.B"}', b"[]"),
        (b"}\n", b"}\n1\n"),
        (b"\nnull\n", b"\nnul\n"),
        (b"\nnull\n", b"\n0\n"),
    ],
)
def test_a_malformed_request_is_refused(old: bytes, new: bytes) -> None:
    body = body_of(fastjson.encode_request(1, b"a.B", b"m", b"I", arguments=[b"7"]))
    assert old in body
    with pytest.raises(ProtocolError):
        fastjson.decode_request(body.replace(old, new, 1))


@given(st.integers(-(2**31), 2**31 - 1))
def test_an_int_reply_reads_back(value: int) -> None:
    reply = fastjson.decode_reply(body_of(fastjson.encode_int_reply(1, value)))
    assert reply == ("value", str(value).encode(), None)


@given(VALUES)
def test_a_value_reply_reads_back(value: object) -> None:
    text = json.dumps(value, indent=1).encode()
    reply = fastjson.decode_reply(body_of(fastjson.encode_value_reply(1, text)))
    assert json.loads(reply.value) == value


def test_a_null_reply_reads_back() -> None:
    assert fastjson.decode_reply(body_of(fastjson.encode_null_reply(1))).kind == "null"


@given(TEXT)
def test_an_exceptions_message_reads_back(text: str) -> None:
    stream = fastjson.encode_exception_reply(1, b"java.lang.RuntimeException", text.encode())
    reply = fastjson.decode_reply(body_of(stream))
    assert reply.kind == "exception"
    said = " ".join(text.split())
    expected = f"java.lang.RuntimeException: {said}" if said else "java.lang.RuntimeException"
    assert fastjson.describe_exception(reply.value) == expected


@pytest.mark.parametrize(
    ("throwable", "said"),
    [
        (b'"plain"', "plain"),
        (b'{"message":"m"}', "m"),
        (b'{"cause":{"message":"inner"},"stackTrace":[{"class":"X"}],"message":"outer"}', "outer"),
        (b'{"localizedMessage":"l","class":"a.B"}', "a.B: l"),
        (b'{"localizedMessage":"l","message":"m"}', "m"),
        (rb'{"\u0040type":"a.B","message":"a\nb"}', "a.B: a b"),
        (b'{ "message" : "m" , "@type" : "a.B" }', "a.B: m"),
        (b'{"@type":"a.B","message":null}', "a.B"),
        (b"{}", "the provider raised an exception without a message"),
        (b"null", "the provider raised an exception without a message"),
        (b"[1]", "the provider raised an exception without a message"),
        (rb'"\ud800"', r"\ud800"),
    ],
)
def test_what_a_throwable_says_is_found(throwable: bytes, said: str) -> None:
    assert fastjson.describe_exception(throwable) == said


def test_what_a_throwable_says_is_bounded() -> None:
    huge = b'{"@type":"' + b"a" * 100_000 + b'","message":"' + b"m" * 100_000 + b'"}'
    assert len(fastjson.describe_exception(huge)) <= 8200
    assert fastjson.describe_exception(b'{"message":') != ""
