"""Listeners that run out of file descriptors: they wait, close nobody unanswered, and go on."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from dragoman import accepting, dubbo, rpc
from dragoman.accepting import Acceptor, has_room
from tests.waiting import until

ROOT = Path(__file__).parent.parent
DESCRIPTORS = 64
CLIENTS = 100
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
SERVE = """
import asyncio, uvloop
from dragoman import rpc
async def main():
    server = await rpc.serve(lambda body: body, "127.0.0.1:0", heartbeat_ms=60_000)
    print(server.address.port, flush=True)
    await server.serve_forever()
{run}(main())
"""
SDK = """
from dragoman import dubbo
@dubbo.service("com.example.Work")
class Work:
    async def work(self) -> int:
        return 1
dubbo.run(Work(), 0, ready=lambda server: print(server.address.port, flush=True))
"""
PROGRAMS = {
    "rpc.serve on uvloop": SERVE.format(run="uvloop.run"),
    "rpc.serve on asyncio": SERVE.format(run="asyncio.run"),
    "dubbo.run": SDK,
}


@contextmanager
def program(source: str) -> Iterator[int]:
    """A server with few descriptors; its port."""
    with subprocess.Popen(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(  # noqa: PLW1509 - only a system call
            resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)
        ),
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def called(name: str, port: int) -> bool:
    """Whether a real client is served."""
    if name == "dubbo.run":
        async with dubbo.Client(f"dubbo://127.0.0.1:{port}") as client:
            return await client.echo(client.service("com.example.Work")) == "ok"
    async with await rpc.connect(f"127.0.0.1:{port}", connect_timeout_ms=10_000) as client:
        return await client.call("any", b"x") == b"x"


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_descriptors_nobody_is_closed_unanswered(name: str) -> None:
    async def scenario(port: int) -> None:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
        for each in clients:
            each.setblocking(False)
        try:
            # Whoever waits in the queue is served as soon as others leave, and not before.
            caller = asyncio.ensure_future(called(name, port))
            await asyncio.wait((caller,), timeout=0.5)
            assert not caller.done()
            for each in clients:
                with suppress(BlockingIOError):
                    assert each.recv(1, socket.MSG_PEEK) != b"", "closed unanswered"
            for each in clients[:-10]:
                each.close()
            assert await caller
        finally:
            for each in clients:
                each.close()

    with program(PROGRAMS[name]) as port:
        asyncio.run(scenario(port))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_pause_asks_nothing_of_the_listener_and_ends_when_there_is_room(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[asyncio.Transport] = []
    takes = looks = 0

    class Counting(Acceptor):
        def _take(self, sock: socket.socket, most: int) -> bool:
            nonlocal takes
            takes += 1
            return super()._take(sock, most)

        def _look(self) -> None:
            nonlocal looks
            looks += 1
            super()._look()

    class Kept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)  # type: ignore[arg-type]

    async def scenario() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.setblocking(False)
        address = listener.getsockname()
        clients = [socket.create_connection(address) for _ in range(20)]
        bound = max(each.fileno() for each in clients) + 6
        monkeypatch.setattr(accepting, "_bound", lambda: bound)
        acceptor = Counting(asyncio.get_running_loop(), [listener], Kept)
        acceptor.start()
        await until(lambda: acceptor.paused and looks > 2)
        assert 0 < len(made) < 20 and not has_room(listener)
        taken, begun = takes, looks
        await until(lambda: looks > begun + 2)
        assert takes == taken
        monkeypatch.setattr(accepting, "_bound", lambda: bound + 100)
        await until(lambda: len(made) == 20)
        assert not acceptor.paused
        # What waits at the end is accepted too.
        late = socket.create_connection(address)
        acceptor.close(rest=True)
        await until(lambda: len(made) == 21)
        acceptor.close()
        for transport in made:
            transport.abort()
        for each in (*clients, late):
            each.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    new: Callable[[], asyncio.AbstractEventLoop] = LOOPS[loop]
    with asyncio.Runner(loop_factory=new) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("error", [23, 24, 105, 12])
def test_a_kernel_that_has_nothing_left_is_not_asked_again_and_again(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENFILE, EMFILE, ENOBUFS and ENOMEM come without warning."""
    asked = 0

    class Poor(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise OSError(error, "none left")
            return super().accept()

    async def scenario() -> None:
        listener = Poor()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        made = []

        class Kept(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.append(transport)

        acceptor = Acceptor(asyncio.get_running_loop(), [listener], Kept)
        acceptor.start()
        with socket.create_connection(listener.getsockname()):
            await until(lambda: asked == 1 and acceptor.paused)
            await until(lambda: made)
        acceptor.close()
        assert asked in (3, 4)

    asyncio.run(scenario())
