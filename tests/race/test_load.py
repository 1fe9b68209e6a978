"""The builtin load generator: exact counts, named faults, output as agreed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.demo.question import hash_code
from dragoman.errors import UsageError
from dragoman.race.latency import LatencyHistogram
from dragoman.race.load import main, run_load
from dragoman.wire.http1 import Request, RequestDecoder, encode_response

Answer = Callable[[Request], bytes | None]


class Server:
    """A server on a thread a connection; ``answer`` makes the bytes, None closes the connection."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/path?x=1"
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self.serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def serve(self, connection: socket.socket) -> None:
        decoder = RequestDecoder(body_bytes_max=1 << 26)
        with connection:
            while True:
                try:
                    data = connection.recv(65536)
                    decoder.receive_data(data)
                    while (request := decoder.poll()) is not None:
                        self.requests.append(request)
                        reply = self.answer(request)
                        if reply is None:
                            return
                        connection.sendall(reply)
                except OSError:
                    return
                if not data:
                    return

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in self.threads:
            thread.join(10)


@contextmanager
def server(answer: Answer) -> Iterator[Server]:
    result = Server(answer)
    try:
        yield result
    finally:
        result.close()


def ok(request: Request) -> bytes:
    return encode_response(200, body=b"fine")


def right(request: Request) -> bytes:
    return encode_response(200, body=b"%d" % hash_code(request.body.rpartition(b"=")[2]))


def load(url: str, **options: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"connections": 4, "duration_s": 0.2, "spread_s": 0, **options}
    return run_load(url, **arguments)


def test_every_answer_is_counted_and_nothing_else() -> None:
    with server(ok) as target:
        figures = load(target.url)
        assert figures["connections"] == 4
        assert figures["errors"] == {}
        assert figures["good"] == figures["requests"] > 10
        assert figures["requests"] <= len(target.requests) <= figures["requests"] + 4
        assert target.connections == 4
        assert 0.19 < figures["duration_s"] < 1
        assert figures["qps"] == pytest.approx(figures["good"] / figures["duration_s"], rel=1e-3)
        latency = figures["latency_ms"]
        assert set(latency) == {"mean", "min", "max", "p50", "p90", "p99", "p99_9"}
        assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]
        assert set(figures["cpu_s"]) == {"user", "system"}
        request = target.requests[0]
        assert (request.method, request.target) == ("GET", b"/path?x=1")


def test_the_warm_up_is_not_counted() -> None:
    with server(ok) as target:
        figures = load(target.url, warmup_s=0.2)
        assert figures["requests"] < 0.9 * len(target.requests)


def test_a_body_is_sent_as_it_is_also_a_large_one() -> None:
    body = bytes(range(256)) * 40_000
    with server(ok) as target:
        figures = load(
            target.url, method="POST", body=body, content_type="text/plain", connections=2
        )
        assert figures["errors"] == {}
        assert figures["good"] > 0
        assert {request.body == body for request in target.requests} == {True}


def test_statuses_that_are_errors_have_their_names() -> None:
    with server(lambda request: encode_response(503, body=b"no")) as target:
        figures = load(target.url)
        assert figures["good"] == 0
        assert figures["qps"] == 0
        assert figures["errors"] == {"status_503": figures["requests"]}


def test_right_hashes_are_good_and_wrong_ones_are_wrong() -> None:
    with server(right) as target:
        figures = load(target.url, form_hash=True)
        assert figures["errors"] == {}
        assert figures["good"] > 10
        assert len({request.body for request in target.requests}) > 10
        assert target.requests[0].method == "POST"
        target.answer = lambda request: encode_response(200, body=b"1")
        figures = load(target.url, form_hash=True)
        assert figures["good"] == 0
        assert figures["errors"] == {"wrong": figures["requests"]}


def test_nobody_listening_is_counted_as_connect() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        figures = load(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert figures["requests"] == 0
    assert set(figures["errors"]) == {"connect"}
    assert figures["errors"]["connect"] >= 4
    assert figures["latency_ms"]["max"] == 0


def test_a_server_that_closes_is_counted_as_reset() -> None:
    with server(lambda request: None) as target:
        figures = load(target.url)
        assert figures["requests"] == 0
        assert set(figures["errors"]) == {"reset"}


def test_garbage_is_counted_as_malformed() -> None:
    with server(lambda request: b"garbage\r\n\r\n") as target:
        assert set(load(target.url)["errors"]) == {"malformed"}
        target.answer = lambda request: ok(request) + b"HTTP/1.1 "
        assert load(target.url)["good"] > 0


def test_a_server_that_never_answers_is_counted_as_timeout() -> None:
    with server(lambda request: b"") as target:
        figures = load(target.url, timeout_s=0.05, duration_s=0.3)
        assert set(figures["errors"]) == {"timeout"}
        assert figures["errors"]["timeout"] >= 4


def test_a_server_that_says_close_gets_new_connections_without_an_error() -> None:
    with server(lambda request: encode_response(200, connection=1)) as target:
        figures = load(target.url)
        assert figures["errors"] == {}
        assert target.connections >= figures["good"] > 4


@pytest.mark.parametrize(
    "url", ["", "h:1", "https://h/", "http://", "http://127.0.0.1:x/", "http://127.0.0.1:1/ a"]
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        load(url)


@pytest.mark.parametrize(
    "options",
    [{"connections": 0}, {"duration_s": 0}, {"timeout_s": 0}, {"warmup_s": -1}, {"method": "A B"}],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        load("http://127.0.0.1:1/", **options)


def test_the_program_prints_one_json_object(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"abc")
    with server(ok) as target:
        result = subprocess.run(
            [
                *(sys.executable, "-m", "dragoman.race.load", "--json", "--connections", "2"),
                *("--duration", "0.2", "--warmup", "0.05", "--method", "POST"),
                *("--body-file", str(body), target.url),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    figures = json.loads(result.stdout)
    assert set(figures) == {
        "connections", "duration_s", "requests", "good", "qps", "errors", "latency_ms", "cpu_s",
    }  # fmt: skip
    assert figures["good"] > 0
    assert target.requests[0].body == b"abc"


def test_the_program_ends_with_one_line_for_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ftp://h/"]) == 2
    assert main(["--body-file", "/nowhere", "http://127.0.0.1:1/"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_the_program_describes_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with server(ok) as target:
        assert main(["-c", "1", "-d", "0.1", target.url]) == 0
    assert "errors: none" in capsys.readouterr().out


@given(st.lists(st.integers(0, 1 << 44), min_size=1, max_size=200))
def test_percentiles_are_within_a_hundredth(values: list[int]) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    values.sort()
    for fraction in (0.01, 0.5, 0.9, 0.99, 0.999, 1.0):
        rank = max(1, int(fraction * len(values) + 0.5))
        assert histogram.percentile(fraction) == pytest.approx(values[rank - 1], rel=0.008, abs=1)
    assert histogram.count == len(values)
    summary = histogram.summary()
    assert summary["mean"] == pytest.approx(sum(values) / len(values) / 1e6, abs=1e-4)
    assert summary["max"] == pytest.approx(values[-1] / 1e6, abs=1e-4)
