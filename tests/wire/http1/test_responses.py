"""The response decoder: framing, interim responses, the end of the connection, and bad peers."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire.http1 import (
    CT_JSON,
    HttpError,
    Response,
    ResponseDecoder,
    encode_response,
)
from tests.wire.http1.support import one_byte_at_a_time

Answer = tuple[int, bytes, bool]

GOOD: list[tuple[str, bytes, list[Answer]]] = [
    ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", [(200, b"abc", True)]),
    ("length 0", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [(200, b"", True)]),
    ("no phrase", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", [(200, b"", True)]),
    ("no space", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", [(200, b"", True)]),
    ("phrase in UTF-8", b"HTTP/1.1 200 \xc3\xbc\r\nContent-Length: 0\r\n\r\n", [(200, b"", True)]),
    (
        "chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n1;x\r\nc\r\n0\r\nT: 1\r\n\r\n",
        [(200, b"abc", True)],
    ),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", [(204, b"", True)]),
    ("304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", [(304, b"", True)]),
    (
        "100 before 200",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        [(200, b"a", True)],
    ),
    (
        "102 and 103 before 200",
        b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: a\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        [(200, b"a", True)],
    ),
    (
        "close",
        b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
        [(503, b"a", False)],
    ),
    ("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", [(200, b"a", False)]),
    (
        "HTTP/1.0 keep-alive",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        [(200, b"a", True)],
    ),
    (
        "two",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
        b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nbc",
        [(200, b"a", True), (404, b"bc", True)],
    ),
]

BAD: list[tuple[str, bytes]] = [
    ("not HTTP", b"HTTQ/1.1 200 OK\r\n\r\n"),
    ("HTTP/2", b"HTTP/2.0 200 OK\r\n\r\n"),
    ("HTTP/1.2", b"HTTP/1.2 200 OK\r\n\r\n"),
    ("no code", b"HTTP/1.1 OK\r\n\r\n"),
    ("code of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
    ("code of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
    ("code 099", b"HTTP/1.1 099 OK\r\n\r\n"),
    ("code 600", b"HTTP/1.1 600 OK\r\n\r\n"),
    ("101", b"HTTP/1.1 101 Switching\r\n\r\n"),
    ("phrase with NUL", b"HTTP/1.1 200 \0\r\n\r\n"),
    ("bare LF", b"HTTP/1.1 200 OK\n\r\n"),
    ("bare CR", b"HTTP/1.1 200 OK\rX: y\r\n\r\n"),
    ("empty line first", b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
    (
        "length and coding",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("lengths repeated", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
    ("bad length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    ("gzip", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    ("bad chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
    ("folded", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
    ("endless phrase", b"HTTP/1.1 200 " + b"a" * 20000),
    ("endless field", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 20000),
    ("large body", b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"),
]


def decode(pieces: list[bytes], decoder: ResponseDecoder | None = None) -> list[Answer]:
    decoder = decoder or ResponseDecoder()
    answers: list[Answer] = []
    for piece in pieces:
        decoder.receive_data(piece)
        while (response := decoder.poll()) is not None:
            answers.append((response.status, response.body, response.keep_alive))
    return answers


@pytest.mark.parametrize(("name", "data", "expected"), GOOD, ids=[row[0] for row in GOOD])
def test_a_response_however_it_is_cut(name: str, data: bytes, expected: list[Answer]) -> None:
    assert decode([data]) == expected
    assert decode(one_byte_at_a_time(data)) == expected
    for at in range(1, len(data)):
        assert decode([data[:at], data[at:]]) == expected


@pytest.mark.parametrize(("name", "data"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_response_is_refused_however_it_is_cut(name: str, data: bytes) -> None:
    for pieces in ([data], one_byte_at_a_time(data), [data[:9], data[9:]]):
        with pytest.raises(HttpError) as error:
            decode(pieces)
        assert error.value.status in (400, 413, 431, 501, 502)


def test_a_response_to_head_has_no_body() -> None:
    decoder = ResponseDecoder()
    decoder.head_only = True
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    assert decode([data + data], decoder) == [(200, b"", True)] * 2


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a", b"b", b"c"], []])
def test_the_end_of_the_connection_ends_a_body_without_length(pieces: list[bytes]) -> None:
    decoder = ResponseDecoder()
    assert decode([b"HTTP/1.1 200 OK\r\n\r\n", *pieces], decoder) == []
    response = decoder.receive_eof()
    assert response is not None
    assert (response.status, response.body) == (200, b"".join(pieces))
    assert not response.keep_alive


@pytest.mark.parametrize(
    "data",
    [
        b"H",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
    ],
)
def test_the_end_of_the_connection_inside_a_response_is_an_error(data: bytes) -> None:
    decoder = ResponseDecoder()
    decode([data], decoder)
    assert decoder.unfinished
    with pytest.raises(HttpError):
        decoder.receive_eof()


def test_the_end_of_an_idle_connection_is_no_error() -> None:
    decoder = ResponseDecoder()
    assert decoder.receive_eof() is None
    decode([b"HTTP/1.1 204 No\r\n\r\n"], decoder)
    assert not decoder.unfinished
    assert decoder.receive_eof() is None


def test_wanted_fields_and_kind_are_recorded() -> None:
    decoder = ResponseDecoder(wanted=("x-dragoman-error", "retry-after"))
    decoder.receive_data(
        b"HTTP/1.1 503 No\r\nX-Dragoman-Error: overload\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert decoder.poll() == Response(503, True, CT_JSON, b"{}", {"x-dragoman-error": b"overload"})


def test_a_body_over_the_limit_is_refused_without_a_length_too() -> None:
    decoder = ResponseDecoder(body_bytes_max=3)
    decoder.receive_data(b"HTTP/1.1 200 OK\r\n\r\nabcd")
    with pytest.raises(HttpError):
        decoder.poll()


@given(
    status=st.sampled_from([200, 201, 400, 404, 405, 408, 413, 429, 500, 502, 503, 504, 299]),
    body=st.binary(max_size=300),
    value=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    connection=st.sampled_from([0, 1, 2]),
    at=st.integers(0, 400),
)
def test_what_is_encoded_is_decoded(
    status: int, body: bytes, value: str, connection: int, at: int
) -> None:
    data = encode_response(
        status,
        body=body,
        content_type="text/plain",
        fields=[("x-a", value)],
        connection=connection,
    )
    decoder = ResponseDecoder(wanted=("x-a",))
    decoder.receive_data(data[:at])
    first = decoder.poll()
    decoder.receive_data(data[at:])
    response = first or decoder.poll()
    assert response is not None
    assert (response.status, response.body) == (status, body)
    assert response.values["x-a"] == value.encode()
    assert response.keep_alive == (connection != 1)
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    event = peer.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == status
