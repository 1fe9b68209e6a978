"""The gateway client against a server that is no etcd, or has gone wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from dragoman.errors import RegistryError
from dragoman.registry import bodies
from dragoman.registry import gateway as module
from dragoman.registry.gateway import EtcdGateway, WatchReply

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def sized(body: bytes, head: bytes = OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def stream(*lines: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body


CREATED = b'{"result":{"header":{"revision":"7"},"created":true}}\n'


@asynccontextmanager
async def answering(reply: bytes, *, close: bool = True) -> AsyncIterator[EtcdGateway]:
    """A gateway to a server that answers every request with ``reply``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if not close:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    client = EtcdGateway([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"], timeout_s=0.5)
    try:
        yield client
    finally:
        await client.close()
        server.close()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (sized(b"<html>"), "unexpected reply"),
        (sized(b"[]"), "unexpected reply"),
        (sized(b"{}"), "unexpected reply"),
        (sized(b'{"header":{"revision":"x"}}'), "unexpected reply"),
        (sized(b'{"header":{},"kvs":[{"key":"!"}]}'), "unexpected reply"),
        (sized(b'{"header":{},"x":' + b"[" * 9000 + b"]" * 9000 + b"}"), "unexpected reply"),
        (sized(b"\xff\xfe"), "unexpected reply"),
        (sized(b"Not Found\n", b"HTTP/1.1 404 Not Found\r\n"), "no /v3 gateway here"),
        (sized(b"oops", b"HTTP/1.1 500 Internal Server Error\r\n"), "oops"),
        (sized(b'{"error":"e","message":"m","code":3}', b"HTTP/1.1 400 B\r\n"), ": m"),
        (OK + b"Content-Length: 100\r\n\r\nshort", "the connection broke"),
        (b"SSH-2.0-OpenSSH\r\n", "range: "),
        (b"", "range: "),
    ],
)
def test_a_wrong_reply_is_one_error_that_names_the_member(reply: bytes, message: str) -> None:
    async def scenario() -> None:
        async with answering(reply) as client:
            with pytest.raises(RegistryError) as caught:
                await client.range(b"/a", b"/b")
            assert str(caught.value).startswith(f"etcd at {client.member}/v3/kv/range: ")
            assert message in str(caught.value)
            assert (client.errors_total, client.healthy) == (1, False)

    uvloop.run(scenario())


def test_a_reply_over_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with answering(sized(b" " * 5000)) as client:
            with pytest.raises(RegistryError, match="reply over 1000 bytes"):
                await client.range(b"/a", b"/b")

    monkeypatch.setattr(bodies, "REPLY_BYTES_MAX", 1000)
    uvloop.run(scenario())


def test_a_server_that_points_elsewhere_is_not_followed() -> None:
    told: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(await reader.readuntil(b"\r\n"))
        writer.close()

    async def scenario() -> None:
        other = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        there = b"HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:%d/\r\n" % port
        async with answering(sized(b"", there)) as client:
            with pytest.raises(RegistryError, match="status 307"):
                await client.range(b"/a", b"/b")
        other.close()

    uvloop.run(scenario())
    assert told == []


def test_a_silent_server_is_given_up_at_the_deadline() -> None:
    async def scenario() -> None:
        async with answering(b"", close=False) as client:
            with pytest.raises(RegistryError, match=r"no answer within 0.5 s"):
                await client.range(b"/a", b"/b")

    uvloop.run(scenario())


async def watched(client: EtcdGateway) -> list[WatchReply]:
    return [reply async for reply in client.watch(b"/a", b"/b", 1)]


def test_a_stream_is_read_line_by_line_however_it_is_cut() -> None:
    event = b'{"result":{"header":{"revision":"8"},"events":[{"kv":{"key":"YQ=="}}]}}\n'
    whole = CREATED + event + event
    end = b"0\r\n\r\n"

    async def scenario(reply: bytes) -> None:
        async with answering(reply) as client:
            replies = await watched(client)
            assert [reply.created for reply in replies] == [True, False, False]
            assert [len(reply.events) for reply in replies] == [0, 1, 1]
            assert client.events(replies[1].events)[0].kv.key == b"a"

    uvloop.run(scenario(stream(whole) + end))
    uvloop.run(scenario(stream(*(whole[i : i + 1] for i in range(len(whole)))) + end))
    uvloop.run(scenario(stream(whole[:90], whole[90:]) + end))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (stream(CREATED, b"garbage\n"), "unexpected reply"),
        (stream(CREATED, b'{"error":{"message":"etcdserver: no leader"}}\n'), "no leader"),
        (stream(CREATED, b'{"error":"plain"}\n'), "plain"),
        (stream(CREATED, b'{"other":1}\n'), "neither result nor error"),
        (stream(CREATED), "the connection broke"),
        (stream(CREATED, b"x" * 3000), "line over 1000 bytes"),
        (sized(b"no", b"HTTP/1.1 503 Service Unavailable\r\n"), "no"),
    ],
)
def test_a_stream_that_goes_wrong_ends_with_an_error(
    reply: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with answering(reply) as client:
            with pytest.raises(RegistryError) as caught:
                await watched(client)
            assert str(caught.value).startswith(f"etcd at {client.member}/v3/watch: ")
            assert message in str(caught.value)

    monkeypatch.setattr(module, "LINE_BYTES_MAX", 1000)
    uvloop.run(scenario())


def test_a_stream_that_never_says_created_is_given_up_at_the_deadline() -> None:
    async def scenario() -> None:
        async with answering(stream(), close=False) as client:
            with pytest.raises(RegistryError, match=r"no answer within 0.5 s"):
                await watched(client)

    uvloop.run(scenario())


def test_callers_that_retry_go_round_the_members() -> None:
    async def scenario() -> None:
        client = EtcdGateway([f"http://127.0.0.{i}:1" for i in range(1, 4)], timeout_s=0.5)
        asked = []
        for _ in range(4):
            asked.append(client.member[-3])
            with pytest.raises(RegistryError, match="cannot connect: Connection refused"):
                await client.range(b"/a")
        assert asked == ["1", "2", "3", "1"]
        await client.close()

    uvloop.run(scenario())
