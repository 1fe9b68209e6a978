"""The HTTP encoders, read back by the decoders and by h11."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import UsageError
from dragoman.wire.http1 import (
    RequestDecoder,
    encode_request,
    encode_request_head,
    encode_response,
)
from tests.wire.http1.peers import see_h11, see_llhttp

TARGETS = st.text("abcABC019/-._~%41:@!$&'()*+,;=?", max_size=30).map(lambda text: "/" + text)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    target=TARGETS,
    value=VALUES,
    body=st.binary(max_size=500),
    sizes=st.lists(st.integers(1, 60), max_size=20),
)
def test_what_is_encoded_is_decoded(
    method: str, target: str, value: str, body: bytes, sizes: list[int]
) -> None:
    data = encode_request(method, target, host="h:1", body=body, fields=[("x-a", value)])
    decoder = RequestDecoder(wanted=("x-a",))
    requests = []
    at = 0
    for size in [*sizes, len(data)]:
        decoder.receive_data(data[at : at + size])
        at += size
        while (request := decoder.poll()) is not None:
            requests.append(request)
    assert len(requests) == 1
    got = requests[0]
    assert (got.method, got.target, got.body) == (method, target.encode(), body)
    assert got.values == {"x-a": value.encode()}
    for see in (see_h11, see_llhttp):
        seen = see(data)
        assert [(s.method, s.target, s.body) for s in seen] == [(method, target.encode(), body)]


def test_a_head_lacks_only_its_length() -> None:
    head = encode_request_head("POST", "/", host="h", content_type="text/plain")
    assert head == b"POST / HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\n"


@pytest.mark.parametrize(
    "options",
    [
        {"method": "G T"},
        {"method": ""},
        {"target": ""},
        {"target": "/ü"},
        {"target": "/a b"},
        {"target": "/\r\nX: y"},
        {"host": "h\r\nX: y"},
        {"content_type": "a\nb"},
        {"fields": [("a b", "c")]},
        {"fields": [("a", "b\r\nc: d")]},
    ],
)
def test_nothing_is_smuggled_into_a_request(options: dict[str, object]) -> None:
    arguments: dict[str, object] = {"method": "GET", "target": "/", "host": "h", **options}
    method, target = arguments.pop("method"), arguments.pop("target")
    with pytest.raises(UsageError):
        encode_request(method, target, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"content_type": "a\r\nb: c"}, {"fields": [("a", "b\r\nc: d")]}]
)
def test_nothing_is_smuggled_into_a_response(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        encode_response(200, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [100, 204, 304])
def test_a_response_without_a_body_has_no_length(status: int) -> None:
    assert b"content-length" not in encode_response(status)


@pytest.mark.parametrize("length", [0, 9, 10, 99, 100, 65535, 65536])
def test_lengths_are_written_exactly(length: int) -> None:
    assert b"content-length: %d\r\n" % length in encode_response(200, body=b"a" * length)
