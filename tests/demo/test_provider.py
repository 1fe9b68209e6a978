"""The demo provider: its service, its pool, its delay, its faults, its end."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

from dragoman.demo.javahash import java_hash
from dragoman.demo.provider import NOW, ProviderStatistics
from dragoman.demo.serving import ProviderOptions, serve
from dragoman.errors import UsageError
from dragoman.wire.dubbo import fastjson
from dragoman.wire.dubbo.event import encode_heartbeat, event_name
from dragoman.wire.dubbo.frame import encode_frame, reply_error_text
from tests.demo.dubbo_client import INTERFACE, STRING, DubboClient
from tests.demo.provider_process import RUN, provider_process
from tests.load_factor import load_factor
from tests.wire.pieces import ways


def with_provider(options: ProviderOptions, client: Callable[[int], None]) -> ProviderStatistics:
    """Run ``client(port)`` in a thread against a provider in this process."""

    async def main() -> ProviderStatistics:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        port = loop.create_future()
        task = asyncio.create_task(
            serve(options, ready=lambda _, number: port.set_result(number), stop=stop)
        )
        with ThreadPoolExecutor(1) as pool:
            try:
                await loop.run_in_executor(pool, client, await port)
            finally:
                stop.set()
                statistics = await task
        return statistics

    return uvloop.run(main())


AT_ONCE = ProviderOptions(port=0, delay_ms=0, drain_s=1)


@pytest.mark.parametrize(
    ("method", "descriptor", "arguments", "value"),
    [
        (b"hash", STRING, [b'"abc"'], b"96354"),
        (b"hash", STRING, [b'"polygenelubricants"'], b"-2147483648"),
        (b"hash", STRING, [b'""'], b"0"),
        (b"echo", STRING, [rb'"a\"b\n\u00e9"'], rb'"a\"b\n\u00e9"'),
        (b"echo", STRING, [b"null"], b"null"),
        (b"$echo", b"Ljava/lang/Object;", [b'"OK"'], b'"OK"'),
        (b"bean", b"Ljava/util/Map;", [b'{"a": {"@type": "x"}}'], b'{"a": {"@type": "x"}}'),
        (b"add", b"II", [b"2", b'"40"'], b"42"),
        (b"add", b"II", [b"2147483647", b"1"], b"-2147483648"),
        (b"now", b"", [], str(NOW).encode()),
        (b"names", b"", [], b'{"1":"one","2":"two"}'),
        (b"nothing", b"", [], b"null"),
    ],
)
def test_the_service_answers(
    method: bytes, descriptor: bytes, arguments: list[bytes], value: bytes
) -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(7, method, *arguments, descriptor=descriptor)
            assert provider.value() == value

    with_provider(AT_ONCE, client)


@pytest.mark.parametrize(
    ("method", "descriptor", "arguments", "says"),
    [
        (b"fail", STRING, [b'"no \\"luck\\"\\n"'], 'java.lang.RuntimeException: no "luck"'),
        (b"fail", STRING, [rb'"\ud800"'], "java.lang.RuntimeException: ?"),
        (b"hash", STRING, [b"null"], "java.lang.NullPointerException: str is null"),
        (b"hash", STRING, [b"1"], "java.lang.IllegalArgumentException: hash takes a String"),
        (b"add", b"II", [b"1.5", b"x".join([b'"', b'"'])], "java.lang.IllegalArgumentException"),
        (b"hash", b"I", [b"1"], "java.lang.NoSuchMethodException: Not found method hash(I)"),
        ("é".encode() * 200, b"", [], "java.lang.NoSuchMethodException: Not found method é"),
    ],
)
def test_the_service_throws(
    method: bytes, descriptor: bytes, arguments: list[bytes], says: str
) -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(7, method, *arguments, descriptor=descriptor)
            frame = provider.frame()
            assert (frame.id, frame.status) == (7, 20)
            reply = fastjson.decode_reply(frame.body)
            assert reply.kind == "exception"
            assert fastjson.describe_exception(reply.value).startswith(says)

    with_provider(AT_ONCE, client)


@pytest.mark.parametrize(
    ("request_frame", "status", "says"),
    [
        (fastjson.encode_request(7, b"no.Such", b"m", b""), 60, 'exported service: "no.Such"'),
        (encode_frame(7, b"garbage", request=True, two_way=True), 40, "Fail to decode"),
        (encode_frame(7, b"", request=True, two_way=True), 40, "ends before its last field"),
        (encode_frame(7, b"N", request=True, two_way=True, serialization=2), 40, "not fastjson"),
    ],
)
def test_what_cannot_run_is_answered_with_a_status(
    request_frame: bytes, status: int, says: str
) -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.send(request_frame)
            frame = provider.frame()
            assert (frame.id, frame.status, frame.serialization) == (7, status, 6)
            assert says in reply_error_text(6, frame.body)
            provider.call(8, b"hash", b'"a"')
            assert provider.value() == b"97"

    assert with_provider(AT_ONCE, client).refused == 1


def test_a_call_may_come_in_any_pieces() -> None:
    data = fastjson.encode_request(7, INTERFACE, b"hash", STRING, text="é\n".encode())

    def client(port: int) -> None:
        with DubboClient(port) as provider:
            for pieces in list(ways(data))[:40]:
                for piece in pieces:
                    provider.send(piece)
                assert provider.value() == str(java_hash("é\n")).encode()

    with_provider(AT_ONCE, client)


def test_a_megabyte_comes_back() -> None:
    text = json.dumps('a"é\n' * 262144).encode()

    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(7, b"echo", text)
            assert provider.value() == text

    with_provider(AT_ONCE, client)


def test_heartbeats_are_answered_in_their_own_serialization() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            for serialization, body in ((2, b"N"), (6, b"null\n")):
                provider.send(encode_heartbeat(2**63, serialization=serialization))
                frame = provider.frame()
                assert frame.is_event
                assert (frame.is_request, frame.serialization, frame.status, frame.id) == (
                    False, serialization, 20, 2**63,
                )  # fmt: skip
                assert frame.body == body

    assert with_provider(AT_ONCE, client).heartbeats == 2


def test_bytes_that_are_not_dubbo_end_only_their_connection() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as bad, DubboClient(port) as good:
            bad.call(1, b"hash", b'"a"')
            assert bad.value() == b"97"
            bad.call(2, b"hash", b'"a"')
            bad.send(b"GET / HTTP/1.1\r\n\r\n")
            bad.value()
            with pytest.raises(EOFError):
                bad.frame()
            good.call(3, b"hash", b'"a"')
            assert good.value() == b"97"

    with_provider(AT_ONCE, client)


def test_a_client_that_half_closes_gets_what_it_asked_for() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(1, b"hash", b'"a"')
            provider.socket.shutdown(socket.SHUT_WR)
            assert provider.value() == b"97"
            with pytest.raises(EOFError):
                provider.frame()

    for delay_ms in (0, 20):
        with_provider(ProviderOptions(port=0, delay_ms=delay_ms), client)


def test_one_way_calls_are_not_answered() -> None:
    request = fastjson.encode_request(1, INTERFACE, b"hash", STRING, text=b"a")
    one_way = request[:2] + bytes([request[2] & ~0x40]) + request[3:]

    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.send(one_way)
            provider.call(2, b"hash", b'"b"')
            assert provider.frame().id == 2

    for delay_ms in (0, 20):
        with_provider(ProviderOptions(port=0, delay_ms=delay_ms), client)


def test_a_call_beyond_the_limit_is_rejected_at_once() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            began = time.monotonic()
            for id in range(205):
                provider.call(id, b"hash", b'"a"')
            rejected = [provider.frame() for _ in range(5)]
            assert [frame.id for frame in rejected] == [200, 201, 202, 203, 204]
            assert {frame.status for frame in rejected} == {100}
            assert "Thread pool is EXHAUSTED" in reply_error_text(6, rejected[0].body)
            assert {provider.frame().id for _ in range(200)} == set(range(200))
            assert time.monotonic() - began >= 0.3
            provider.call(300, b"hash", b'"a"')
            assert provider.value() == b"97"

    statistics = with_provider(ProviderOptions(port=0, delay_ms=300), client)
    assert (statistics.rejected, statistics.accepted, statistics.in_flight_max) == (5, 201, 200)
    assert statistics.in_flight == 0


def test_the_delay_is_50_to_50_5_ms_under_load() -> None:
    for _ in range(3):  # what else runs on the machine may disturb one try
        counts = under_load(seconds=1.0)
        assert counts["delay_ms_min"] >= 50.0
        if counts["delay_ms_p50"] <= 50.5:
            break
    else:
        raise AssertionError(counts)


def under_load(*, seconds: float) -> dict[str, float]:
    """What a provider counted while 170 callers kept it busy (3,400 calls/s)."""
    with provider_process() as process, DubboClient(process.port) as provider:
        answered = 0
        requests = [
            fastjson.encode_request(id, INTERFACE, b"hash", STRING, text=b"x" * (id % 1024))
            for id in range(170)
        ]
        for request in requests:  # spread over the 50 ms, as independent callers are
            provider.send(request)
            time.sleep(0.05 / 200)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            provider.send(requests[provider.frame().id])
            answered += 1
        assert answered > 500
        return process.stop()


def test_a_lone_call_takes_50_ms() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            waits = []
            for id in range(9):
                began = time.monotonic()
                provider.call(id, b"hash", b'"a"')
                provider.value()
                waits.append((time.monotonic() - began) * 1e3)
            assert 50.0 <= min(waits) <= 50 + 1.5 * load_factor()

    statistics = with_provider(ProviderOptions(port=0), client)
    assert statistics.delay_ms_min >= 50.0


def faulty(fault: str, after: int = 1, until: int = 0, delay_ms: float = 1) -> ProviderOptions:
    return ProviderOptions(
        port=0, delay_ms=delay_ms, fault=fault, fault_after=after, fault_until=until, drain_s=0.1
    )


@pytest.mark.parametrize("delay_ms", [0, 1])
def test_a_provider_that_answers_twice(delay_ms: float) -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            for id in range(4):
                provider.call(id, b"hash", b'"a"')
            assert sorted(provider.frame().id for _ in range(6)) == [0, 1, 1, 2, 2, 3]

    with_provider(faulty("twice", 1, 3, delay_ms), client)


def test_a_provider_that_never_answers() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(0, b"hash", b'"a"')
            assert provider.frame().id == 0
            provider.call(1, b"hash", b'"a"')
            provider.call(2, b"hash", b'"a"')
            provider.send(encode_heartbeat(3))
            assert provider.frame().is_event
            assert provider.frame().id == 2

    with_provider(faulty("never", 1, 2), client)


def test_a_provider_that_hangs() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(0, b"hash", b'"a"')
            assert provider.frame().id == 0
            provider.socket.settimeout(0.1)
            provider.call(1, b"hash", b'"a"')
            with pytest.raises(TimeoutError):
                provider.frame()
            provider.send(encode_heartbeat(2))
            with pytest.raises(TimeoutError):
                provider.frame()

    with_provider(faulty("hang"), client)


def test_a_provider_that_sends_garbage() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(0, b"hash", b'"a"')
            assert provider.frame().id == 0
            provider.call(1, b"hash", b'"a"')
            assert provider.socket.recv(100).startswith(b"HTTP/1.1")

    with_provider(faulty("garbage"), client)


def test_a_provider_that_rejects() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            for id in range(3):
                provider.call(id, b"hash", b'"a"')
                assert provider.frame().status == (20, 100, 20)[id]

    with_provider(faulty("reject", 1, 2), client)


def test_a_provider_that_closes() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(0, b"hash", b'"a"')
            assert provider.frame().id == 0
            provider.call(1, b"hash", b'"a"')
            with pytest.raises((EOFError, ConnectionResetError)):
                provider.frame()

    with_provider(faulty("close"), client)


@pytest.mark.parametrize("delay_ms", [0, 1])
def test_a_provider_that_is_slow(delay_ms: float) -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            provider.call(0, b"hash", b'"a"')
            assert provider.frame().id == 0
            provider.call(1, b"hash", b'"a"')
            time.sleep(0.02)
            provider.call(2, b"hash", b'"a"')
            assert provider.frame().id == 2

    with_provider(faulty("slow", 1, 2, delay_ms), client)


def test_sigterm_warns_the_peers_and_finishes_what_is_under_way(tmp_path: Path) -> None:
    counts_file = tmp_path / "counts.json"
    options = ("--delay-ms", "300", "--size", "large", "--stats-file", str(counts_file))
    with provider_process(*options) as process, DubboClient(process.port) as provider:
        assert process.said.startswith("demo provider (large) listens on 127.0.0.1:")
        provider.call(1, b"hash", b'"a"')
        time.sleep(0.05)
        process.child.terminate()
        event = provider.frame()
        assert event.is_event
        assert not event.two_way
        assert event_name(event.body) == "readonly"
        provider.call(2, b"hash", b'"b"')  # it had not heard yet
        assert provider.value() == b"97"
        assert provider.value() == b"98"
        with pytest.raises(EOFError):
            provider.frame()
        counts = process.finish()
    assert (counts["replies"], counts["in_flight"], counts["size"]) == (2, 0, "large")
    assert json.loads(counts_file.read_text()) == counts


def test_draining_is_bounded() -> None:
    with provider_process("--fault", "hang", "--drain", "0.3") as process:
        with DubboClient(process.port) as provider:
            provider.call(1, b"hash", b'"a"')
            time.sleep(0.05)
            began = time.monotonic()
            process.stop()
        assert time.monotonic() - began < 5 * load_factor()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": "huge"}, "--size must be one of small, medium, large"),
        ({"delay_ms": -1}, "--delay-ms must be"),
        ({"delay_ms": float("nan")}, "--delay-ms must be"),
        ({"port": 70000}, "--port must be"),
        ({"limit": 0}, "limit must be 1 or more"),
        ({"fault": "odd"}, "fault must be one of"),
        ({"fault_after": -1}, "fault_after"),
        ({"drain_s": -1}, "--drain must be"),
        ({"host": "203.0.113.77"}, "cannot listen on 203.0.113.77:0"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        uvloop.run(serve(ProviderOptions(**{"port": 0, **options})))  # type: ignore[arg-type]


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: the port is in use"):
            uvloop.run(serve(ProviderOptions(port=port)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "huge"], "dragoman: --size must be one of small, medium, large, not huge"),
        (["--limit", "0"], "dragoman: the limit must be 1 or more, not 0"),
        (["--stats-file", "no/such/file"], "dragoman: --stats-file no/such/file: there is no such"),
    ],
)
def test_a_bad_option_on_the_command_line_is_one_line(options: list[str], says: str) -> None:
    command = [sys.executable, "-c", RUN, "demo", "provider", "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
