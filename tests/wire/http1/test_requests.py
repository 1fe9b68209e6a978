"""The request decoder against the table of cases, however the bytes are cut."""

from __future__ import annotations

import pytest

from dragoman.errors import UsageError
from dragoman.wire.http1 import HttpError, Request, RequestDecoder
from tests.tables import each_row
from tests.wire.http1.cases import CASES, CLOSED, IDLE, Case, Expected, request
from tests.wire.http1.support import decode, one_byte_at_a_time

NAMES = [case.name for case in CASES]
TRAILING = request(b"GET /trailing HTTP/1.1")


def check(case: Case, requests: list[Request], verdict: int | str) -> None:
    assert verdict == case.verdict
    assert len(requests) == len(case.requests)
    for got, expected in zip(requests, case.requests, strict=True):
        check_request(got, expected)


def check_request(got: Request, expected: Expected) -> None:
    assert got.method == expected.method
    assert got.target == expected.target
    assert got.body == expected.body
    assert got.keep_alive == expected.keep_alive
    assert got.content_kind == expected.content_kind
    if expected.path is not None:
        assert (got.path, got.query) == (expected.path, expected.query)
    for name, value in expected.values.items():
        assert got.values.get(name, b"") == value


def test_the_table_is_complete_and_its_names_are_unique() -> None:
    assert len(CASES) >= 215
    assert len(set(NAMES)) == len(NAMES)


@each_row("case", CASES, names=NAMES)
def test_a_case_whole(case: Case) -> None:
    requests, verdict, _ = decode([case.data], **case.limits)
    check(case, requests, verdict)


@each_row("case", CASES, names=NAMES)
def test_a_case_a_byte_at_a_time(case: Case) -> None:
    requests, verdict, _ = decode(one_byte_at_a_time(case.data), **case.limits)
    check(case, requests, verdict)


@each_row("case", CASES, names=NAMES)
def test_a_case_split_at_every_place(case: Case) -> None:
    for at in range(1, len(case.data)):
        requests, verdict, _ = decode([case.data[:at], case.data[at:]], **case.limits)
        check(case, requests, verdict)


@each_row("case", CASES, names=NAMES)
def test_a_case_with_trailing_bytes(case: Case) -> None:
    for pieces in ([case.data + TRAILING], [case.data, TRAILING]):
        requests, verdict, decoder = decode(pieces, **case.limits)
        if case.verdict == IDLE and "limit" not in case.name:
            assert requests.pop().target == b"/trailing"
            check(case, requests, verdict)
        elif case.verdict == CLOSED or isinstance(case.verdict, int):
            check(case, requests, verdict)
            assert decoder.unread_bytes == 0


@each_row("case", CASES, names=NAMES)
def test_a_case_cut_short_never_accepts_more(case: Case) -> None:
    for at in range(0, len(case.data), 7):
        requests, verdict, _ = decode([case.data[:at]], **case.limits)
        assert len(requests) <= len(case.requests)
        assert not isinstance(verdict, int) or verdict == case.verdict


def test_the_default_limits_are_those_of_the_table() -> None:
    decoder = RequestDecoder()
    decoder.receive_data(b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\nHost: h\r\n")
    assert decoder.poll() is None
    decoder.receive_data(b"X: " + b"b" * (16384 - 8191 - 32))
    assert decoder.poll() is None
    decoder.receive_data(b"bbbbbb")
    with pytest.raises(HttpError) as error:
        decoder.poll()
    assert error.value.status == 431
    assert decode([b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n"])[1] == 414
    assert decode([request(b"GET / HTTP/1.1", *[b"A: b"] * 99)])[1] == IDLE
    assert decode([request(b"GET / HTTP/1.1", *[b"A: b"] * 100)])[1] == 431


def test_a_dead_decoder_stays_dead_and_keeps_nothing() -> None:
    decoder = RequestDecoder()
    decoder.receive_data(b"\0")
    for _ in range(3):
        with pytest.raises(HttpError) as error:
            decoder.poll()
        assert error.value.status == 400
        decoder.receive_data(request())
        assert decoder.unread_bytes == 0
    assert not decoder.unfinished


def test_continue_is_asked_for_once_and_only_while_the_body_is_missing() -> None:
    head = request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 3")
    decoder = RequestDecoder()
    decoder.receive_data(head)
    assert decoder.poll() is None
    assert decoder.continue_wanted
    assert decoder.poll() is None
    assert not decoder.continue_wanted
    assert decoder.unfinished
    decoder.receive_data(b"abc")
    got = decoder.poll()
    assert got is not None
    assert got.body == b"abc"
    decoder.receive_data(head + b"a")
    assert decoder.poll() is None
    assert not decoder.continue_wanted


def test_http_1_0_gets_no_continue() -> None:
    decoder = RequestDecoder()
    decoder.receive_data(request(b"POST / HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 3"))
    assert decoder.poll() is None
    assert not decoder.continue_wanted


def test_a_large_body_in_pieces_arrives_exactly() -> None:
    body = bytes(range(256)) * 4096
    data = request(b"POST / HTTP/1.1", b"Content-Length: %d" % len(body)) + body
    for size in (1000, 65536):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        requests, verdict, _ = decode(pieces)
        assert verdict == IDLE
        assert requests[0].body == body


def test_unread_requests_survive_another_receive() -> None:
    decoder = RequestDecoder()
    decoder.receive_data(request(b"GET /1 HTTP/1.1") + request(b"GET /2 HTTP/1.1"))
    first = decoder.poll()
    assert decoder.unread_bytes > 0
    decoder.receive_data(request(b"GET /3 HTTP/1.1")[:10])
    decoder.receive_data(request(b"GET /3 HTTP/1.1")[10:])
    targets = [first, decoder.poll(), decoder.poll()]
    assert [r.target if r else None for r in targets] == [b"/1", b"/2", b"/3"]
    assert decoder.poll() is None


def test_an_announced_length_takes_no_memory_before_it_arrives() -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        decoders = [RequestDecoder(body_bytes_max=1 << 30) for _ in range(50)]
        before = tracemalloc.get_traced_memory()[0]
        for decoder in decoders:
            decoder.receive_data(
                request(b"POST / HTTP/1.1", b"Content-Length: 1000000000") + b"a" * 100
            )
            assert decoder.poll() is None
        assert tracemalloc.get_traced_memory()[0] - before < 50 * 8192
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "rest",
    [
        b"GET /",
        request(b"POST /p?q HTTP/1.1", b"X-A: b", b"Content-Length: 5000") + b"a" * 100,
        request(b"POST /p?q HTTP/1.1", b"X-A: b", b"Transfer-Encoding: chunked") + b"1\r\n",
    ],
)
def test_little_is_kept_of_a_large_read_that_ends_in_an_unfinished_request(rest: bytes) -> None:
    import tracemalloc

    finish = {b"G": b"x HTTP/1.1\r\nHost: h\r\n\r\n", b"P": b"a" * 4900}[rest[:1]]
    if rest.endswith(b"1\r\n"):
        finish = b"a\r\n0\r\n\r\n"
    tracemalloc.start()
    try:
        decoders = [RequestDecoder(wanted=("x-a",)) for _ in range(50)]
        before = tracemalloc.get_traced_memory()[0]
        for decoder in decoders:
            decoder.receive_data(request() * 5000 + rest)
            while decoder.poll() is not None:
                pass
        assert tracemalloc.get_traced_memory()[0] - before < 50 * 16384
    finally:
        tracemalloc.stop()
    for decoder in decoders:
        decoder.receive_data(finish)
        got = decoder.poll()
        assert got is not None
        if got.method == "POST":
            assert (got.path, got.query, got.values) == (b"/p", b"q", {"x-a": b"b"})
            assert set(got.body) == set(b"a")
        else:
            assert got.target == b"/x"


def test_bad_limits_are_refused() -> None:
    for options in (
        {"head_bytes_max": 1},
        {"target_bytes_max": 0},
        {"fields_max": 0},
        {"body_bytes_max": -1},
        {"wanted": ("Upper",)},
        {"wanted": ("",)},
        {"wanted": tuple(f"x-{i}" for i in range(9))},
    ):
        with pytest.raises(UsageError):
            RequestDecoder(**options)  # type: ignore[arg-type]
