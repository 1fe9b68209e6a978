"""A connection within the process: what a socket's transport does, without recursion."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from dragoman.rpc.pipe import PipeEnd, join


class End(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self, answer: bool = False) -> None:
        self.received: list[bytes] = []
        self.events: list[str] = []
        self.depth = 0
        self.transport: Any = None
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.depth += 1
        assert self.depth == 1, "the other end ran within a write"
        self.received.append(data)
        if self._answer:
            self.transport.write(data)
        self.depth -= 1

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append(f"lost {error}")


def joined(answer: bool = False) -> tuple[End, End]:
    """A server's end and a client's."""
    server, client = End(answer), End(answer)
    transports = join(
        asyncio.get_running_loop(), server, client, server_name="there", client_name="here"
    )
    assert transports == (server.transport, client.transport)
    assert isinstance(server.transport, PipeEnd)
    return server, client


def test_what_is_written_arrives_in_order_and_never_within_the_write() -> None:
    async def scenario() -> None:
        server, client = joined()
        for i in range(10):
            client.transport.write(b"%d" % i)
        client.transport.writelines([b"x", b"y"])
        assert server.received == []
        assert client.transport.get_write_buffer_size() == 12
        await asyncio.sleep(0)
        assert b"".join(server.received) == b"0123456789xy"
        assert client.transport.get_write_buffer_size() == 0
        assert client.transport.get_extra_info("peername") == "there"
        assert server.transport.get_extra_info("socket") is None

    uvloop.run(scenario())


def test_two_ends_that_answer_each_other_for_ever_leave_the_loop_its_turns() -> None:
    async def scenario() -> None:
        server, client = joined(answer=True)
        client.transport.write(b"ball")
        for _ in range(100):
            await asyncio.sleep(0)
        assert 100 < len(server.received) + len(client.received) < 2000
        client.transport.abort()
        await asyncio.sleep(0)
        assert server.events == client.events == ["lost None"]

    uvloop.run(scenario())


def test_a_reader_that_pauses_has_the_writer_paused_and_misses_nothing() -> None:
    async def scenario() -> None:
        server, client = joined()
        server.transport.pause_reading()
        piece = bytes(100_000)
        for _ in range(12):
            client.transport.write(piece)
        await asyncio.sleep(0)
        assert (server.received, client.events) == ([], ["pause"])
        server.transport.resume_reading()
        await asyncio.sleep(0)
        assert len(server.received) == 12
        assert client.events == ["pause", "resume"]

    uvloop.run(scenario())


def test_a_reader_that_pauses_within_a_read_gets_the_rest_later() -> None:
    async def scenario() -> None:
        server, client = joined()
        received, pause = server.received, server.transport.pause_reading

        def receive(data: bytes) -> None:
            received.append(data)
            pause()

        server.data_received = receive  # type: ignore[method-assign]
        for i in range(3):
            client.transport.write(b"%d" % i)
        for count in (1, 2, 3):
            await asyncio.sleep(0)
            assert len(received) == count
            server.transport.resume_reading()
        client.transport.write(b"3")
        await asyncio.sleep(0)
        assert received == [b"0", b"1", b"2", b"3"]

    uvloop.run(scenario())


def test_what_was_written_before_close_arrives_and_both_ends_are_told_once() -> None:
    async def scenario() -> None:
        server, client = joined()
        client.transport.write(b"last words")
        client.transport.close()
        client.transport.close()
        client.transport.write(b"too late")
        assert client.transport.is_closing()
        for _ in range(3):
            await asyncio.sleep(0)
        assert server.received == [b"last words"]
        assert server.events == client.events == ["lost None"]
        server.transport.write(b"nobody is there")
        server.transport.abort()
        await asyncio.sleep(0)
        assert server.events == client.events == ["lost None"]

    uvloop.run(scenario())


def test_abort_drops_what_was_not_delivered() -> None:
    async def scenario() -> None:
        server, client = joined()
        client.transport.write(b"lost")
        client.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        assert server.received == []
        assert server.events == client.events == ["lost None"]

    uvloop.run(scenario())


def test_who_does_not_read_learns_of_the_end_when_it_writes() -> None:
    async def scenario() -> None:
        server, client = joined()
        server.transport.pause_reading()
        client.transport.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert server.events == []
        server.transport.write(b"anybody there?")
        await asyncio.sleep(0)
        assert server.events == ["lost None"]

    uvloop.run(scenario())
