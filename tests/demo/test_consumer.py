"""The demo consumer against a fake agent: every answer checked, every fault one error."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from dragoman.demo.consumer import parse_agent, serve
from dragoman.errors import UsageError
from dragoman.wire.http1 import Response, ResponseDecoder, encode_response
from tests.demo.fake_agent import CLOSE, FakeAgent, fake_agent, right

INVOKE = b"GET /invoke HTTP/1.1\r\nHost: h\r\n\r\n"
WANTED = ("x-dragoman-error", "allow", "connection")


class Client:
    """One connection to the consumer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.decoder = ResponseDecoder(wanted=WANTED)

    async def answer(self) -> Response | None:
        """The next response; None if the consumer closes instead."""
        while True:
            response = self.decoder.poll()
            if response is not None:
                return response
            data = await asyncio.wait_for(self.reader.read(65536), 10)
            if not data:
                return self.decoder.receive_eof()
            self.decoder.receive_data(data)

    async def ask(self, request: bytes = INVOKE) -> Response:
        """Send a request and wait for its response."""
        self.writer.write(request)
        response = await self.answer()
        assert response is not None
        return response


class Consumer:
    """A consumer that serves, and its clients."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Client] = []

    async def client(self) -> Client:
        """A new connection."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, request: bytes = INVOKE) -> Response:
        """A response on a connection of its own."""
        return await (await self.client()).ask(request)

    async def statistics(self) -> dict[str, int]:
        """The consumer's counters."""
        response = await self.ask(b"GET /statistics HTTP/1.1\r\nHost: h\r\n\r\n")
        result: dict[str, int] = json.loads(response.body)
        return result


@asynccontextmanager
async def consumer_of(port: int, **options: Any) -> AsyncIterator[Consumer]:
    stop = asyncio.Event()
    address: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            host="127.0.0.1",
            port=0,
            agent=f"http://127.0.0.1:{port}",
            ready=lambda host, port: address.set_result(port),
            stop=stop,
            **options,
        )
    )
    consumer = Consumer(await address)
    try:
        yield consumer
    finally:
        stop.set()
        await task
        for client in consumer.clients:
            client.writer.close()
            with suppress(OSError):
                await client.writer.wait_closed()


def run(test: Callable[[FakeAgent, Consumer], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with fake_agent() as agent, consumer_of(agent.port, **options) as consumer:
            await test(agent, consumer)

    uvloop.run(main())


def test_a_right_answer_is_ok() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        client = await consumer.client()
        for _ in range(50):
            response = await client.ask()
            assert (response.status, response.body) == (200, b"OK")
        request = agent.requests[0]
        assert (request.method, request.target) == ("POST", b"/")
        assert len(set(agent.parameters)) > 45
        assert len(agent.connections) == 1
        assert (await consumer.statistics())["right"] == 50

    run(test)


def test_connections_to_the_agent_grow_with_demand_and_the_last_used_is_used_first() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.delay_s = 0.02
        responses = await asyncio.gather(*[consumer.ask() for _ in range(100)])
        assert {response.status for response in responses} == {200}
        assert agent.under_way_max > 50
        assert 50 < len(agent.connections) <= 100
        agent.delay_s = 0
        agent.used.clear()
        client = await consumer.client()
        for _ in range(10):
            await client.ask()
        assert len(set(agent.used)) == 1

    run(test)


def test_the_number_of_connections_is_bounded_and_requests_wait_in_order() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.delay_s = 0.002
        responses = await asyncio.gather(*[consumer.ask() for _ in range(30)])
        assert {response.status for response in responses} == {200}
        assert agent.under_way_max == 2
        assert len(agent.connections) == 2

    run(test, connections_max=2)


@pytest.mark.parametrize("body", [b"", b"1", b"null", b"99999999999", b"OK"])
def test_a_wrong_answer_is_an_error(body: bytes) -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.answer = lambda parameter: encode_response(200, body=body)
        response = await consumer.ask()
        assert (response.status, response.body) == (500, b"ERROR")
        assert response.values["x-dragoman-error"] == b"wrong answer"
        assert (await consumer.statistics())["wrong"] == 1

    run(test)


@pytest.mark.parametrize("status", [400, 404, 500, 502, 503, 504])
def test_an_agents_error_is_passed_on(status: int) -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.answer = lambda parameter: encode_response(status, body=b"no")
        client = await consumer.client()
        for _ in range(2):
            response = await client.ask()
            assert (response.status, response.body) == (500, b"ERROR %d" % status)
        assert len(agent.connections) == 1

    run(test)


def test_an_agent_that_is_not_there_is_an_error_and_its_return_is_noticed() -> None:
    async def main() -> None:
        async with fake_agent() as gone:
            port = gone.port
        async with consumer_of(port) as consumer:
            responses = await asyncio.gather(*[consumer.ask() for _ in range(10)])
            assert {(r.status, r.body) for r in responses} == {(500, b"ERROR 502")}
            assert b"connect" in responses[0].values["x-dragoman-error"]
            assert (await consumer.statistics())["waiting"] == 0
            async with fake_agent(port):
                assert (await consumer.ask()).status == 200

    uvloop.run(main())


def test_a_connection_that_the_agent_closed_while_idle_is_not_an_error() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        client = await consumer.client()
        for _ in range(20):
            assert (await client.ask()).status == 200
            # the consumer's loop sees the client's request and the agent's close in one turn
            descriptor = agent.connections[-1].get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(descriptor)) as same:
                same.shutdown(socket.SHUT_WR)
            client.writer.write(INVOKE)
            response = await client.answer()
            assert response is not None
            assert response.status == 200

    run(test)


def test_an_agent_that_says_close_gets_a_new_connection() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.answer = lambda parameter: right(parameter).replace(
            b"content-type", b"connection: close\r\ncontent-type"
        )
        client = await consumer.client()
        for _ in range(3):
            assert (await client.ask()).status == 200
        assert len(agent.connections) == 3

    run(test)


@pytest.mark.parametrize(
    "answer",
    [
        CLOSE,
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"\0" * 100,
    ],
)
def test_an_agent_that_breaks_off_or_sends_garbage_is_an_error(answer: bytes) -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.answer = lambda parameter: answer
        client = await consumer.client()
        response = await client.ask()
        assert (response.status, response.body) == (500, b"ERROR 502")
        agent.answer = right
        assert (await client.ask()).status == 200

    run(test)


def test_an_answer_too_many_closes_the_connection_and_reaches_nobody() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.answer = lambda parameter: right(parameter) * 2
        client = await consumer.client()
        assert (await client.ask()).status == 200
        agent.answer = right
        for _ in range(3):
            assert (await client.ask()).status == 200
        assert len(agent.connections) == 2

    run(test)


def test_an_agent_that_never_answers_times_out() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.answer = lambda parameter: None
        response = await consumer.ask()
        assert (response.status, response.body) == (500, b"ERROR 504")
        statistics = await consumer.statistics()
        assert statistics["agent_connections"] == 0

    run(test, timeout_s=0.01)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        client = await consumer.client()
        client.writer.write(
            INVOKE + b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n" + INVOKE + b"BREW / HTTP/1.1\r\n"
        )
        statuses = []
        while (response := await client.answer()) is not None:
            statuses.append(response.status)
        assert statuses == [200, 404, 200, 501]
        assert agent.under_way_max == 1

    run(test)


def test_a_client_that_sends_far_ahead_is_slowed_and_loses_nothing() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.delay_s = 0.05
        client = await consumer.client()
        count = 6000
        client.writer.write(INVOKE)
        client.writer.write(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n" * count)
        responses = [await client.answer() for _ in range(count + 1)]
        assert [r.status if r else None for r in responses] == [200] + [404] * count

    run(test)


def test_a_client_that_leaves_disturbs_nobody() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.delay_s = 0.02
        leaving = [await consumer.client() for _ in range(20)]
        for client in leaving:
            client.writer.write(INVOKE)
        await leaving[0].writer.drain()
        await agent.asked.wait()
        for client in leaving:
            client.writer.transport.abort()
        responses = await asyncio.gather(*[consumer.ask() for _ in range(20)])
        assert {response.status for response in responses} == {200}
        statistics = await consumer.statistics()
        assert statistics["wrong"] == statistics["failed"] == 0

    run(test)


def test_a_half_closed_client_gets_its_answer() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        agent.delay_s = 0.02
        client = await consumer.client()
        client.writer.write(INVOKE)
        client.writer.write_eof()
        response = await client.answer()
        assert response is not None
        assert response.status == 200
        assert await client.answer() is None

    run(test)


@pytest.mark.parametrize(
    ("request_", "status", "fields"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 404, {}),
        (b"POST /invoke HTTP/1.1\r\nHost: h\r\n\r\n", 405, {"allow": b"GET"}),
        (b"GET /invoke HTTP/1.1\r\n\r\n", 400, {"connection": b"close"}),
        (b"GET /invoke HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200, {}),
        (b"GET /invoke HTTP/1.0\r\n\r\n", 200, {"connection": b"close"}),
        (
            b"GET /invoke HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            200,
            {"connection": b"keep-alive"},
        ),
        (b"GET /invoke?x=1 HTTP/1.1\r\nHost: h\r\n\r\n", 200, {}),
        (b"GET http://h/invoke HTTP/1.1\r\nHost: h\r\n\r\n", 200, {}),
    ],
)
def test_a_request_gets_this_status(request_: bytes, status: int, fields: dict[str, bytes]) -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        response = await consumer.ask(request_)
        assert response.status == status
        assert fields.items() <= response.values.items()

    run(test)


def test_an_expectation_is_answered() -> None:
    async def test(agent: FakeAgent, consumer: Consumer) -> None:
        client = await consumer.client()
        client.writer.write(
            b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
        )
        assert await client.reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await client.reader.readline()
        client.writer.write(b"a")
        response = await client.answer()
        assert response is not None
        assert response.status == 404

    run(test)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:1", "https://h:1", "http://h", "http://:1", "http://h:x", "http://h:1/a"]
)
def test_a_bad_agent_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--agent"):
        parse_agent(url)


def command(*arguments: str) -> list[str]:
    code = "from dragoman.cli.main import run; run()"
    return [sys.executable, "-c", code, "demo", "consumer", *arguments]


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = subprocess.run(
            command("--port", str(port)), capture_output=True, text=True, timeout=30, check=False
        )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "in use" in result.stderr


@pytest.mark.parametrize("options", [("--port", "65536"), ("--port", "-1"), ("--agent", "x")])
def test_a_bad_option_is_one_line(options: tuple[str, str]) -> None:
    result = subprocess.run(
        command(*options), capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert options[0] in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    process = subprocess.Popen(
        command("--port", "0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("consumer on http://127.0.0.1:")
        port = int(line.split(",")[0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)):
            process.send_signal(number)
            _, errors = process.communicate(timeout=10)
        assert process.returncode == 0
        assert errors == ""
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
