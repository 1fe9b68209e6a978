"""What the HTTP, hessian2 and fastjson2 codecs cost: ``python -m benchmarks.wire``.

Nanoseconds a message, everything in one read and in the cache, beside h11, llhttp
(``httptools``) and ``python-hessian`` in the same run. Each line's count is a check of its result.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import h11
import httptools

from benchmarks import wire_hessian2, wire_jsonb
from dragoman.demo.question import draw
from dragoman.wire.http1 import RequestDecoder, ResponseDecoder, encode_request_head

HEAD = encode_request_head(
    "POST",
    "/",
    host="127.0.0.1:20000",
    content_type="application/x-www-form-urlencoded",
    fields=[("user-agent", "AHC/2.0"), ("accept", "*/*")],
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n1234567890"
CHUNKED_TAIL = b"transfer-encoding: chunked\r\n\r\n2bc\r\n" + b"x" * 700 + b"\r\n0\r\n\r\n"


def contest_request(body_bytes: int) -> bytes:
    """A request of the contest with a body of about so many bytes."""
    seed = 1
    while True:
        data, _ = draw(seed, head=HEAD)
        if abs(len(data.partition(b"\r\n\r\n")[2]) - body_bytes) < 8:
            return data
        seed += 1


class _Nothing:
    def on_message_complete(self) -> None:
        self.done = True


def with_llhttp(data: bytes, rounds: int) -> int:
    """As a server would use httptools."""
    receiver = _Nothing()
    parser = httptools.HttpRequestParser(receiver)
    for _ in range(rounds):
        parser.feed_data(data)
    return rounds if receiver.done else 0


def with_h11(data: bytes, rounds: int) -> int:
    """As a server would use h11."""
    seen = 0
    for _ in range(rounds):
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                seen += 1
                break
    return seen


def measure(run: Callable[[bytes, int], int], data: bytes, rounds: int) -> dict[str, Any]:
    """The best of five runs, in nanoseconds a message."""
    best = float("inf")
    seen = 0
    for _ in range(5):
        start = time.perf_counter_ns()
        seen = run(data, rounds)
        best = min(best, (time.perf_counter_ns() - start) / rounds)
    return {"ns": round(best, 1), "bytes": len(data), "seen": seen, "rounds": rounds}


def main() -> int:
    """Run as a program."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    options.add_argument("--rounds", type=int, default=200_000)
    options.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = options.parse_args()
    rounds = arguments.rounds
    request = contest_request(600)
    wanted = ("x-dragoman-timeout", "x-dubbo-group", "x-dubbo-version")
    figures = {
        "request": measure(RequestDecoder().measure, request, rounds),
        "request, three fields wanted": measure(
            RequestDecoder(wanted=wanted).measure, request, rounds
        ),
        "request, chunked": measure(RequestDecoder().measure, HEAD + CHUNKED_TAIL, rounds),
        "response": measure(ResponseDecoder().measure, ANSWER, rounds),
        "request by httptools": measure(with_llhttp, request, max(1, rounds // 10)),
        "request by h11": measure(with_h11, request, max(1, rounds // 200)),
    }
    for name, run, data, count in wire_hessian2.runs(rounds):
        figures[f"hessian2: {name}"] = measure(run, data, count)
    for name, run, data, count in wire_jsonb.runs(rounds):
        figures[f"fastjson2: {name}"] = measure(run, data, count)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, row in figures.items():
            print(f"{name:58}{row['ns']:12.1f} ns   {row['seen']} of {row['rounds']} seen")
    return 0 if all(row["seen"] == row["rounds"] for row in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
