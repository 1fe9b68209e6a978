"""A server of the SDK before a foreign consumer: limits, deadlines, connections, stopping."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dragoman import dubbo
from dragoman.wire import hessian2
from tests.dubbo.hello import HELLO, OBJECT, STRING, Hello, call, run
from tests.dubbo.peer import EVENT, HESSIAN2, REQUEST, TWO_WAY, frame, peer


def test_beyond_the_limit_calls_are_rejected_at_once_and_one_way_calls_dropped() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        first = consumer.send(call("wait", "a", types=STRING))
        second = consumer.send(call("block", "b", types=STRING))
        reply = await consumer.ask(call("hash", "abc", types=STRING))
        assert reply.status == 100
        assert "Thread pool is EXHAUSTED! Pool Size: 2 (active: 2, core: 2, max: 2)" in reply.text
        consumer.send(call("wait", "c", types=STRING), REQUEST | HESSIAN2)
        echo = hessian2.encode("2.0.2", HELLO, None, "$echo", OBJECT, "x", {})
        assert (await consumer.ask(echo)).status == 100
        # Not so a heartbeat.
        beat = await consumer.ask(b"N", REQUEST | TWO_WAY | EVENT | HESSIAN2)
        assert (beat.status, beat.flags, beat.body) == (20, EVENT | HESSIAN2, b"N")
        service.door.set()
        service.gate.set()
        replies = [await consumer.receive(), await consumer.receive()]
        assert {reply.id for reply in replies} == {first, second}
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        counted = server.statistics()
        assert (counted.rejected, counted.dropped, counted.in_progress_max) == (2, 1, 2)

    assert sorted(run(test, limit=2).done) == ["a", "b"]


def test_a_one_way_call_runs_and_is_not_answered() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        service.door.set()
        consumer.send(call("wait", "a", types=STRING), REQUEST | HESSIAN2)
        consumer.send(call("fail", "a", types=STRING), REQUEST | HESSIAN2)
        consumer.send(call("nope", "a", types=STRING), REQUEST | HESSIAN2)
        consumer.send(b"\xff", REQUEST | HESSIAN2)
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    assert run(test).done == ["a"]


@pytest.mark.parametrize("attachment", ["_TO", "timeout"])
def test_when_the_callers_time_has_passed_a_task_is_cancelled(attachment: str) -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("wait", "a", types=STRING, attachments={attachment: "30"}))
        assert reply.status == 31
        assert "did not end within the caller's time" in reply.text
        service.door.set()
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        assert server.statistics().in_progress == 0

    assert run(test).done == []


def test_a_thread_that_is_late_keeps_its_place_until_it_ends() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        body = call("block", "a", types=STRING, attachments={"_TO": "30"})
        assert (await consumer.ask(body)).status == 31
        assert (await consumer.ask(call("hash", "abc", types=STRING))).status == 100
        service.gate.set()
        async with asyncio.timeout(30):
            while server.statistics().in_progress:
                await asyncio.sleep(0.001)
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        assert server.statistics().late == 1

    run(test, limit=1)


def test_what_has_not_begun_when_its_time_has_passed_never_runs() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        consumer.send(call("block", "first", types=STRING))
        late = consumer.send(call("block", "late", types=STRING, attachments={"_TO": "30"}))
        reply = await consumer.receive()
        assert (reply.id, reply.status) == (late, 31)
        service.gate.set()
        assert (await consumer.receive()).values == [1, "first"]

    assert run(test, threads=1).done == ["first"]


@pytest.mark.parametrize(
    "noise",
    [b"help\r\nls\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\xda", b"\xda\xbc" + bytes(14), bytes(20)],
)
def test_bytes_that_are_no_dubbo_do_no_harm(noise: bytes) -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        async with peer(server.address) as stranger:
            stranger.writer.write(noise)
            if noise == b"\xda":
                stranger.writer.write_eof()
            assert await stranger.closed()
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    run(test)


def test_a_body_beyond_the_bound_closes_its_connection() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        async with peer(server.address) as stranger:
            stranger.writer.write(frame(1, b"")[:12] + (8_388_609).to_bytes(4, "big"))
            assert await stranger.closed()
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    run(test)


def test_a_reply_beyond_the_bound_and_one_that_cannot_be_are_errors_of_their_call() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("huge"))
        assert reply.status == 50
        assert "Data length too large: 9000" in reply.text
        reply = await consumer.ask(call("wrong"))
        assert reply.status == 50
        assert "'no number' is no int" in reply.text
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    run(test)


def test_many_requests_in_one_read_are_all_answered_in_one_write_or_few() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        body = call("hash", "abc", types=STRING)
        consumer.writer.write(b"".join(frame(n, body) for n in range(1, 151)))
        replies = [await consumer.receive() for _ in range(150)]
        assert sorted(reply.id for reply in replies) == list(range(1, 151))
        assert {reply.body for reply in replies} == {b"\x91\x93"}

    run(test)


def test_a_request_that_comes_byte_by_byte_is_answered() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        for byte in frame(7, call("hash", "abc", types=STRING)):
            consumer.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await consumer.receive()).values == [1, 3]

    run(test)


def test_a_consumer_that_sends_no_more_still_gets_its_replies() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        consumer.send(call("wait", "a", types=STRING))
        consumer.writer.write_eof()
        await asyncio.sleep(0.02)
        service.door.set()
        assert (await consumer.receive()).values == [1, "a"]
        assert await consumer.closed()

    run(test)


def test_a_silent_connection_is_closed_and_one_with_calls_under_way_is_not() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        async with peer(server.address) as other:
            other.send(call("wait", "a", types=STRING))
            assert await consumer.closed()
            service.door.set()
            assert (await other.receive()).values == [1, "a"]

    run(test, idle_s=0.5)


def test_connections_beyond_the_bound_are_refused() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        async with peer(server.address) as other:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await other.receive()

    run(test, clients_max=1)


def test_a_server_that_stops_says_so_and_finishes_what_it_has() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        running = consumer.send(call("wait", "a", types=STRING))
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        closing = asyncio.create_task(server.close())
        event = await consumer.receive()
        assert (event.flags, event.body) == (REQUEST | EVENT | HESSIAN2, b"\x01R")
        # What was sent before the event was heard is still answered.
        assert (await consumer.ask(call("hash", "abcd", types=STRING))).values == [1, 4]
        assert not closing.done()
        service.door.set()
        reply = await consumer.receive()
        assert (reply.id, reply.values) == (running, [1, "a"])
        await closing
        assert await consumer.closed()

    run(test)


def test_a_server_waits_no_longer_than_it_is_told() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        consumer.send(call("wait", "a", types=STRING))
        await asyncio.sleep(0.02)
        # Less than what it would wait untold.
        async with asyncio.timeout(8):
            await server.close(drain_ms=100)

    run(test)


def test_functions_on_the_loop_know_their_request() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("attached_in_thread", attachments={"trace": "9"}))
        assert reply.values == [1, "9"]
        with pytest.raises(dubbo.UsageError):
            dubbo.current_request()

    run(test, threads=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit: expected a whole number from 1"),
        ({"port": 70000}, "port: expected"),
        ({"threads": -1}, "threads: expected"),
        ({"registry": "etcd://127.0.0.1:1", "host": "0.0.0.0"}, "advertise: expected a host"),
        ({"registry": "ftp://x"}, "registry"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_opens(
    options: dict[str, Any], said: str
) -> None:
    async def main() -> None:
        with pytest.raises(dubbo.UsageError, match=said):
            await dubbo.serve(Hello(), **{"port": 0, **options})

    asyncio.run(main())


def test_what_is_no_service_is_refused() -> None:
    async def main() -> None:
        for services in (object(), Hello, [], [Hello(), Hello()]):
            with pytest.raises(dubbo.UsageError):
                await dubbo.serve(services, 0)
        async with await dubbo.serve(Hello(), 0) as server:
            with pytest.raises(dubbo.ConnectError, match="cannot listen"):
                await dubbo.serve(Hello(), server.address.port)

    asyncio.run(main())
