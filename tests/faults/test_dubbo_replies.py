"""A provider of our own making, which answers with any bytes: one error for that call, at most."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.chain import INTERFACE, Program, start
from tests.faults.conftest import Mesh
from tests.faults.http import Client, Response, client, form
from tests.waiting import until

GROUP = "x-dragoman-group: scripted"
FASTJSON = 6


def frame(
    id: int, body: bytes, *, status: int = 20, flags: int = FASTJSON, length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    return struct.pack(">HBBQI", 0xDABB, flags, status, id, size & 0xFFFFFFFF) + body


def text(message: str) -> bytes:
    return json.dumps(message).encode() + b"\n"


def value(data: bytes = b"7") -> bytes:
    return b"1\n" + data + b"\n"


# What the parameter's text makes the provider write for the call of that id.
REPLIES = {
    "null": lambda id: frame(id, b"2\n"),
    "with attachments": lambda id: frame(id, b'4\n7\n{"a":"b"}\n'),
    "an exception": lambda id: frame(id, b'0\n{"@type":"x.Y","message":"no \\"way\\""}\n'),
    "empty": lambda id: frame(id, b""),
    "only a kind": lambda id: frame(id, b"1\n"),
    "unknown kind": lambda id: frame(id, b"9\n7\n"),
    "no json": lambda id: frame(id, value(b"{")),
    "two values": lambda id: frame(id, value(b"7 8")),
    "bad utf-8": lambda id: frame(id, value(b'"\xff"')),
    "too deep": lambda id: frame(id, value(b"[" * 20_000 + b"]" * 20_000)),
    "too long a number": lambda id: frame(id, value(b"7" * 1025)),
    "a cycle": lambda id: frame(id, b"\x91\x79\x51\x90", flags=2),
    "status 25": lambda id: frame(id, text("bad"), status=25),
    "status 31": lambda id: frame(id, text("late"), status=31),
    "status 40": lambda id: frame(id, text("bad"), status=40),
    "status 50": lambda id: frame(id, text("bad"), status=50),
    "status 60": lambda id: frame(id, text("none"), status=60),
    "status 70": lambda id: frame(id, text("broke"), status=70),
    "status 80": lambda id: frame(id, text("broke"), status=80),
    "status 99": lambda id: frame(id, text("what"), status=99),
    "status 100": lambda id: frame(id, text("full"), status=100),
    "secrets of a value": lambda id: frame(id, text("cannot serialize hunter2"), status=50),
    "secrets of a call": lambda id: frame(
        id,
        text(
            "RemotingException: Not found exported service: a.B:1.0:20880 in [c.D:20880], may be "
            "version or group mismatch , message:RpcInvocation [arguments=[hunter2]]"
        ),
        status=70,
    ),
    "an error that is no text": lambda id: frame(id, b"\xff\0{", status=70),
    "hessian": lambda id: frame(id, b"\x91\x97", flags=2),
    "unknown serialization": lambda id: frame(id, value(), flags=29),
    "strangers first": lambda id: b"".join(
        (
            frame(id + 1000, value(b"8")),
            frame(id, value(b"8"), flags=0x80 | 0x40 | FASTJSON),
            frame(5, b"N", flags=0x80 | 0x20 | 2),
            frame(id, value()),
            frame(id, value(b"9")),
        )
    ),
    "length negative": lambda id: frame(id, b"", length=-1),
    "length 2^31": lambda id: frame(id, b"", length=1 << 31),
    "length over the limit": lambda id: frame(id, b"", length=(8 << 20) + 1),
    "wrong magic": lambda id: b"\xda\xbc" + frame(id, value())[2:],
    "zeros": lambda id: bytes(64),
    "telnet": lambda id: b"Unsupported command: hash\r\ndubbo>",
}
EXPECTED = {
    "null": (200, ""),
    "with attachments": (200, ""),
    "an exception": (500, "remote"),
    "status 31": (504, "deadline"),
    "status 40": (400, "malformed"),
    "status 60": (404, "not-found"),
    "status 70": (500, "remote"),
    "status 80": (500, "remote"),
    "status 100": (503, "overload"),
    "an error that is no text": (500, "remote"),
    "strangers first": (200, ""),
    "hessian": (200, ""),
    **dict.fromkeys(
        ("too deep", "too long a number", "a cycle", "status 25", "status 50"),
        (502, "bad-result"),
    ),
}
# What concerns one call alone, whoever asks how often.
ALONE = (
    "too deep",
    "too long a number",
    "a cycle",
    "no json",
    "unknown serialization",
    "status 31",
    "status 40",
    "status 50",
    "status 60",
    "status 70",
    "status 99",
    "an exception",
)
ENDS = ("length negative", "length 2^31", "length over the limit", "wrong magic", "zeros", "telnet")


class Scripted:
    """The provider: answers 7 unless the parameter names one of REPLIES or an act of its own."""

    def __init__(self) -> None:
        self.connections = 0
        self.heartbeat_replies = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                await self._call(reader, writer)
        except (EOFError, OSError):
            writer.transport.abort()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, flags, _, id, length = struct.unpack(">HBBQI", await reader.readexactly(16))
        body = await reader.readexactly(length)
        if flags & 0x20:
            self.heartbeat_replies += not flags & 0x80
            if flags & 0x80 and flags & 0x40:
                writer.write(frame(id, body, flags=flags & 0x1F | 0x20))
            return
        name = json.loads(body.split(b"\n")[5])
        if name == "slow":
            return
        if name == "half close":
            writer.write_eof()
        elif name == "half a reply":
            writer.write(frame(id, value())[:-1])
            writer.write_eof()
        elif name == "piece by piece":
            for byte in frame(id, value()):
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
        elif name == "read only":
            writer.write(frame(1, b"\x01R", flags=0x80 | 0x20 | 2) + frame(id, value()))
        elif name == "heartbeat":
            writer.write(frame(9, b"N", flags=0x80 | 0x40 | 0x20 | 2) + frame(id, value()))
        else:
            writer.write(REPLIES[name](id) if name in REPLIES else frame(id, value()))
        await writer.drain()


@pytest.fixture(scope="module")
def agent(mesh: Mesh) -> Iterator[Program]:
    """Before its provider is there, which is each test's own, on the same port."""
    made = mesh.chain.provider_agent(
        "scripted-agent", mesh.chain.port("scripted"), "--group", "scripted", "--limit", "20"
    )
    made.launch()
    yield made
    made.kill()


@asynccontextmanager
async def scripted(mesh: Mesh, agent: Program) -> AsyncIterator[tuple[Scripted, Client]]:
    provider = Scripted()
    port = mesh.chain.port("scripted")
    server = await asyncio.start_server(provider.serve, "127.0.0.1", port, reuse_address=True)
    try:
        await agent.wait_ready()
        async with client(mesh.agent.port) as one:
            await until(lambda: well(one), 8.0)
            yield provider, one
    finally:
        server.close()
        for writer in provider.writers:
            writer.transport.abort()


async def ask(one: Client, name: str) -> Response:
    return await one.ask(form(name, GROUP, "x-dragoman-timeout-ms: 1000"))


async def well(one: Client) -> bool:
    answer = await ask(one, "well")
    return (answer.status, answer.body) == (200, b"7")


def test_each_bad_reply_is_one_error_and_leaves_the_connection(mesh: Mesh, agent: Program) -> None:
    async def scenario() -> None:
        async with scripted(mesh, agent) as (provider, one):
            connections = provider.connections
            for name in REPLIES.keys() - {*ENDS, "secrets of a call", "secrets of a value"}:
                answer = await ask(one, name)
                expected = EXPECTED.get(name, (502, "upstream-protocol"))
                assert (answer.status, answer.error) == expected, (name, answer)
                assert await well(one), name
                assert await agent.metric("dragoman_provider_in_progress") == 0, name
            assert provider.connections == connections, "one connection for all of this"

    asyncio.run(scenario())


def test_no_reply_has_its_provider_set_aside_however_often_it_comes(
    mesh: Mesh, agent: Program
) -> None:
    """Nothing else is called in between, as where one caller is the only one for a while."""

    async def scenario() -> None:
        async with scripted(mesh, agent) as (_, one):
            for name in ALONE:
                for _ in range(12):
                    assert (await ask(one, name)).status != 503, name
                assert await well(one), name

    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["two agents", "one agent"])
def test_after_slow_calls_a_method_that_only_throws_is_answered_by_its_exception(
    mesh: Mesh, agent: Program, way: str
) -> None:
    """The provider is idle but for slow calls, and answers heartbeats: it is well all the time."""

    async def scenario(consumer: Program) -> None:
        async with scripted(mesh, agent), client(consumer.port) as one:
            await until(lambda: well(one), 8.0)
            for _ in range(20):
                assert await well(one)
            async with client(consumer.port) as slow:
                slow.send(form("slow", GROUP, "x-dragoman-timeout-ms: 1500"))
                for _ in range(12):
                    await asyncio.sleep(0.2)
                    # Two at once: none has to wait for what becomes of the other.
                    one.send(form("an exception", GROUP) + form("status 40", GROUP))
                    assert [(await one.response()).status for _ in "ab"] == [500, 400]
                assert (await slow.response()).status == 504
            assert await well(one)

    if way == "two agents":
        asyncio.run(scenario(mesh.agent))
        return
    at = f"127.0.0.1:{mesh.chain.port('scripted')}"
    native = mesh.chain.consumer_agent(
        "native-scripted",
        registry=f"static://{at}?protocol=dubbo&serialization=fastjson&group=scripted"
        f"&interface={INTERFACE}",
    )
    asyncio.run(start(native))
    try:
        asyncio.run(scenario(native))
    finally:
        native.kill()


def test_what_a_provider_says_of_a_callers_value_is_in_no_log(mesh: Mesh, agent: Program) -> None:
    """Java's text about a service that it does not export holds the whole invocation."""

    async def scenario() -> None:
        async with scripted(mesh, agent) as (_, one):
            for name in ("secrets of a value", "secrets of a call"):
                for _ in range(6):
                    answer = await ask(one, name)
                    assert answer.status in (502, 503)
            assert answer.body.startswith(b"every provider of this service has been set aside: ")
            assert answer.body.endswith(b"Not found exported service: a.B:1.0:20880\n")
            await until(lambda: well(one), 3.0)
        for program in (mesh.agent, agent):
            assert "hunter2" not in program.text()

    asyncio.run(scenario())


@pytest.mark.parametrize("name", [*ENDS, "half close", "half a reply"])
def test_what_is_no_dubbo_ends_the_connection_and_the_next_serves(
    mesh: Mesh, agent: Program, name: str
) -> None:
    async def scenario() -> None:
        async with scripted(mesh, agent) as (provider, one):
            connections = provider.connections
            answer = await ask(one, name)
            whose = "upstream-protocol" if name in ENDS else "upstream-lost"
            assert (answer.status, answer.error) == (502, whose), answer
            await until(lambda: well(one), 3.0)
            assert provider.connections == connections + 1

    asyncio.run(scenario())


def test_replies_in_single_bytes_and_heartbeats_are_understood(mesh: Mesh, agent: Program) -> None:
    async def scenario() -> None:
        async with scripted(mesh, agent) as (provider, one):
            for _ in range(3):
                assert (await ask(one, "piece by piece")).body == b"7"
            assert (await ask(one, "heartbeat")).body == b"7"
            await until(lambda: provider.heartbeat_replies == 1)

    asyncio.run(scenario())


def test_a_provider_about_to_stop_gets_nothing_more(mesh: Mesh, agent: Program) -> None:
    async def scenario() -> None:
        async with scripted(mesh, agent) as (provider, one):
            assert (await ask(one, "read only")).body == b"7"
            answer = await ask(one, "well")
            assert (answer.status, answer.error) == (503, "unavailable")
            # It waits for its consumers to go. One that is still there after 10 s is to stay.
            await until(provider.writers[-1].is_closing, 3.0)
            await until(lambda: well(one), 20.0)

    asyncio.run(scenario())
