"""A small map beside a body: it arrives with its request alone, in every style of calling."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from dragoman import cluster, rpc
from dragoman.errors import ProtocolError, UsageError
from dragoman.rpc.metadata import METADATA_BYTES_MAX, metadata_bytes, metadata_of
from dragoman.testing.mesh import frame, hello
from tests.rpc.peers import RUNNERS, RawSocket
from tests.waiting import until

ANY = "127.0.0.1:0"
TRACE = {"traceparent": "00-4bf9-00f0-01", "tenant": "größe"}


def said() -> bytes:
    """The metadata of the request that is being answered."""
    return json.dumps(rpc.current_request().metadata).encode()


def at_once(body: bytes) -> bytes:
    return said()


async def later(body: bytes) -> bytes:
    before = said()
    await asyncio.sleep(0)
    assert said() == before
    return before


noted: list[dict[str, str]] = []


def note(body: bytes) -> bytes:
    noted.append(rpc.current_request().metadata)
    return b""


FUNCTIONS = {"at_once": at_once, "later": later, "note": note}


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("method", ["at_once", "later"])
@pytest.mark.parametrize("size", [0, 10, 70_000, 3 << 20])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_request_has_its_own_metadata(method: str, size: int, threads: int, runner: str) -> None:
    async def work() -> None:
        body = bytes(size)
        server = await rpc.serve(FUNCTIONS, ANY, threads=threads)
        async with server, await rpc.connect(server.address) as client:
            calls = [
                client.call(method, body, metadata=metadata, order_key=key)
                for metadata in (TRACE, None, {"n": "2"}, {}, TRACE)
                for key in (None, "k")
            ]
            answers = [json.loads(each) for each in await asyncio.gather(*calls)]
            assert answers == [
                each for each in (TRACE, {}, {"n": "2"}, {}, TRACE) for _ in range(2)
            ]

    RUNNERS[runner](work())


def test_every_style_of_calling_takes_metadata() -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY) as server:
            async with await rpc.connect(server.address) as client:
                heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                client.call_soon(
                    "at_once", b"", lambda reply, error: heard.set_result(reply), metadata=TRACE
                )
                assert json.loads(await heard) == TRACE
                answers = await client.call_many("at_once", [b"", b"x"], metadata=TRACE)
                assert [json.loads(each) for each in answers] == [TRACE, TRACE]
                noted.clear()
                client.notify("note", metadata=TRACE)
                client.notify("note", bytes(3 << 20), metadata=TRACE)
                client.notify("note")
                await client.call("at_once")
                await until(lambda: len(noted) == 3)
                assert sorted(map(len, noted)) == [0, 2, 2]
            address = str(server.address)
            with await asyncio.to_thread(rpc.connect_sync, address) as blocking:

                def ask() -> bytes:
                    blocking.notify("note", metadata=TRACE)
                    assert blocking.call_many("later", [b""], metadata=TRACE)
                    assert blocking.call_future("later", metadata=TRACE).result()
                    return blocking.call("later", metadata=TRACE)

                assert json.loads(await asyncio.to_thread(ask)) == TRACE

    asyncio.run(work())


def test_a_pool_and_a_typed_service_pass_metadata_on() -> None:
    @rpc.service
    class Notes:
        async def said(self) -> dict[str, str]:
            return rpc.current_request().metadata

    async def work() -> None:
        server = await cluster.serve(
            [Notes(), FUNCTIONS], ANY, name="notes", registry="memory://metadata"
        )
        pool = await cluster.connect("notes", registry="memory://metadata")
        async with server, pool:
            assert json.loads(await pool.call("later", metadata=TRACE)) == TRACE
            (answer,) = await pool.call_many("later", [b""], metadata=TRACE)
            assert json.loads(answer) == TRACE
            assert json.loads(await pool.call("later")) == {}
            notes = pool.service(Notes)
            assert await rpc.with_options(notes, metadata=TRACE).said() == TRACE
            assert await notes.said() == {}

    asyncio.run(work())


@pytest.mark.parametrize(
    "metadata",
    [
        "text", 5, [("a", "b")], {"": "x"}, {"k" * 256: "x"}, {"k": 1}, {1: "k"}, {b"k": "v"},
        {"k": None}, {"k": "x" * METADATA_BYTES_MAX}, {"\ud800": "x"}, {"k": "\udfff"},
        {str(i): "x" * 10 for i in range(400)},
    ],
)  # fmt: skip
def test_what_is_no_small_map_of_texts_is_refused(metadata: Any) -> None:
    async def work() -> None:
        server = await rpc.serve(FUNCTIONS, ANY)
        async with server, await rpc.connect(server.address) as client:
            with pytest.raises(UsageError, match=r"^metadata: .*expected"):
                client.call("at_once", metadata=metadata)
            assert json.loads(await client.call("at_once")) == {}

    asyncio.run(work())


def test_metadata_is_read_as_it_was_written() -> None:
    for each in (TRACE, {"k": ""}, {"k" * 255: "v" * 3838}):
        data = metadata_bytes(each)
        assert data is not None
        assert metadata_of(data) == each
    assert metadata_bytes({}) is None


WITH = {"REQUEST": {"target": 1, "value": 1000}}


async def ends_the_session(*frames: bytes) -> None:
    """A server ends the session of a peer that sends these, and says why."""
    async with await rpc.serve(FUNCTIONS, ANY) as server:
        peer = await RawSocket.connect(server)
        await peer.send(hello(features=15), frame("NAME", b"at_once", target=1))
        await peer.read("CREDIT")
        await peer.send(*frames)
        assert re.search(b"METADATA|ORDER", (await peer.read("GOODBYE"))[5])
        await peer.read("END")
        peer.close()


@pytest.mark.parametrize(
    "data",
    [b"\1", b"\1k", b"\1k\0", b"\1k\5\0abc", b"\0\0\0", b"\1\xff\0\0", b"\1k\1\0\xff", b"\xff" * 9,
     b"\1k\0\0\1k\0\0"],
)  # fmt: skip
def test_metadata_of_a_hostile_peer_ends_its_session(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="METADATA"):
        metadata_of(data)

    asyncio.run(ends_the_session(frame("METADATA", data, id=1)))


@pytest.mark.parametrize(
    "frames",
    [
        [("METADATA", 1), ("REQUEST", 2)],
        [("METADATA", 1), ("METADATA", 1)],
        [("METADATA", 1), ("PING", 0)],
        [("METADATA", 1), ("ORDER", 2)],
        [("ORDER", 1), ("METADATA", 1)],
    ],
)
def test_metadata_is_of_the_request_that_follows(frames: list[tuple[str, int]]) -> None:
    bodies = {"METADATA": b"\1k\0\0", "ORDER": b"k"}
    asyncio.run(
        ends_the_session(
            *(
                frame(kind, bodies.get(kind, b""), id=id, **WITH.get(kind, {}))
                for kind, id in frames
            )
        )
    )
