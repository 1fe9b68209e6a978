"""One large call through real agents beside many small ones, which hardly notice.

Small calls come by a timetable, whether earlier ones have been answered or not, and each takes from
when it was due: where a loop stands still, all that were due meanwhile are late. So many without a
large call are the baseline, of the same run; then as many or more while there is always a large
one. A slower machine and busy neighbours make both slower. Whoever is not measured has a process of
its own, and is no slower for a large call: the caller of these, and the provider, which reads no
argument and has its results ready. The processors are shared all the same, by six processes on two
of them perhaps. The goal is 1.5 times the baseline; the bound adds a piece of work (20 ms). One
loop that stands still for a large call (a second and more) is far beyond both.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragoman.wire import invocation
from tests.dubbo.test_large_calls import RESULTS, SHAPES
from tests.faults.chain import Chain, Program, chain, start
from tests.faults.http import Client, call, client
from tests.pace import pace

EVERY_S = 0.004
CALLS = 500
CONNECTIONS = 16
GOAL = 1.5
SLICE_MS = 20.0
HESSIAN2 = 2
SMALL = call("small", b'{"args":[1]}')

# A caller of its own: what it does takes none of the interpreter that measures.
CALLER = """
import http.client, sys, time
port, method, path, status = sys.argv[1:]
body = open(path, "rb").read()
one = http.client.HTTPConnection("127.0.0.1", int(port), timeout=120)
end = time.monotonic() + 2
while True:
    headers = {"Content-Type": "application/json", "X-Dragoman-Timeout-Ms": "60000"}
    one.request("POST", method, body, headers)
    answer = one.getresponse()
    answer.read()
    assert str(answer.status) == status, (answer.status, answer.headers)
    if time.monotonic() > end:
        break
"""


# A provider of its own, which keeps nothing of what it is sent but its beginning. Replies are files
# in its directory; a short request that holds the name of one gets it, all others get `done`.
PROVIDER = """
import asyncio, os, struct, sys

def frame(id, body, flags):
    return struct.pack(">HBBQI", 0xDABB, flags, 20, id, len(body)) + body

class Provider(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data, self.skip = transport, b"", 0

    def data_received(self, data):
        passed = min(self.skip, len(data))
        self.skip -= passed
        if passed == len(data):
            return
        self.data += data[passed:]
        while len(self.data) >= 16:
            _, flags, _, id, length = struct.unpack(">HBBQI", self.data[:16])
            if length <= 4096 and len(self.data) < 16 + length:
                break
            body = self.data[16:16 + length]
            self.skip = length - len(body)
            self.data = self.data[16 + length:]
            if flags & 0x20:
                if flags & 0x40:
                    self.transport.write(frame(id, body, flags & 0x1F | 0x20))
                continue
            name = "done"
            if length <= 4096 and b"large-" in body:
                name = body[body.index(b"large-"):].split(b"!")[0].decode()
            with open(os.path.join(sys.argv[1], name), "rb") as file:
                self.transport.write(frame(id, file.read(), flags & 0x1F))

async def main():
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Agents:
    """Two agents, and where the provider's replies are."""

    chain: Chain
    consumer: Program
    replies: Path


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """A provider whose answers are as large as the caller asks, with both agents."""
    replies = tmp_path_factory.mktemp("replies")
    (replies / "done").write_bytes(invocation.encode_reply("done", serialization=HESSIAN2))
    command = [sys.executable, "-c", PROVIDER, str(replies)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as provider,
        chain(tmp_path_factory.mktemp("large")) as made,
    ):
        assert provider.stdout is not None
        port = int(provider.stdout.readline())
        agent = made.provider_agent("agent", port, "--serialization", "hessian2")
        consumer = made.consumer_agent("consumer")

        async def begin() -> None:
            await made.etcd.start()
            await start(agent, consumer)
            await consumer.settled(1)

        try:
            asyncio.run(begin())
            yield Agents(made, consumer, replies)
        finally:
            provider.kill()


def p(sorted_ms: list[float], part: float) -> float:
    return sorted_ms[int(len(sorted_ms) * part)]


async def small_calls(port: int, until: subprocess.Popen[bytes] | None) -> list[float]:
    """What small calls take from when each was due, in milliseconds, sorted: ``CALLS`` of them, or
    as many as there are until a process ends."""
    took: list[float] = []
    connections: asyncio.Queue[Client] = asyncio.Queue()

    async def one(due_s: float) -> None:
        there = await connections.get()
        answer = await there.ask(SMALL)
        connections.put_nowait(there)
        assert answer.status == 200, (answer.status, answer.body)
        took.append((time.monotonic() - due_s) * 1000)

    async def connected(count: int) -> None:
        if count:
            async with client(port) as there:
                connections.put_nowait(there)
                await connected(count - 1)
            return
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            number = 0
            while number < CALLS or (until is not None and until.poll() is None):
                due_s = begun_s + number * EVERY_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                group.create_task(one(due_s))
                number += 1

    await connected(CONNECTIONS)
    return sorted(took)


# Both ways; the others are for the long runs.
QUICK = {"argument-objects", "argument-zeros", "result-doubles"}
ARGUMENTS = ("objects", "lists", "zeros", "decimals", "long decimals", "keys", "words")
ASKED = [f"argument-{name}" for name in ARGUMENTS] + [
    f"result-{name}" for name in ("maps", "ints", "doubles", "keys", "texts", "beans")
]


@pytest.mark.parametrize(
    "asked",
    [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in ASKED],
)
def test_small_calls_are_answered_beside_large_ones(
    agents: Agents, asked: str, tmp_path: Path
) -> None:
    kind, _, shape = asked.partition("-")
    path = tmp_path / "body"
    if kind == "argument":
        path.write_bytes(b'{"args":[' + SHAPES[shape]() + b"]}")
    else:
        name = f"large-{shape}"
        path.write_text(f'{{"args":["{name}!"]}}')
        reply = invocation.encode_reply(RESULTS[shape](), serialization=HESSIAN2)
        (agents.replies / name).write_bytes(reply)
    target = call("large", b"").split(b" ")[1].decode()

    async def scenario() -> str:
        port = agents.consumer.port
        await small_calls(port, None)
        before = await small_calls(port, None)
        command = [sys.executable, "-c", CALLER, str(port), target, str(path), "200"]
        with subprocess.Popen(command) as caller:  # noqa: ASYNC220
            beside = await small_calls(port, caller)
        assert caller.returncode == 0
        figures = (
            f"median {p(before, 0.5):.2f} -> {p(beside, 0.5):.2f} ms,"
            f" p99 {p(before, 0.99):.2f} -> {p(beside, 0.99):.2f} ms of {len(beside)}"
        )
        print(asked, figures)
        within = GOAL * p(before, 0.99) + SLICE_MS * pace()
        return "" if p(beside, 0.99) <= within else figures

    tries = [asyncio.run(scenario())]
    while tries[-1] and len(tries) < 3:
        # What interrupts a processor does not do so each time.
        tries.append(asyncio.run(scenario()))
    assert not tries[-1], tries
