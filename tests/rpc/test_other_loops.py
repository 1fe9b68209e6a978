"""What lives on one loop, used on another, in another thread, or when its loop is closed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from dragoman import cluster, dubbo, rpc
from dragoman.errors import UsageError
from dragoman.registry import open_registry
from tests.odd import check_said

TCP = "127.0.0.1:0"
ECHO = {"echo": lambda body: body}


@dubbo.service("com.example.Loops")
class Service:
    async def echo(self, text: str) -> str:
        return text


async def _made() -> dict[str, Any]:
    """One of each that is used on a loop, all connected."""
    server = await rpc.serve(ECHO, TCP)
    provider = await dubbo.serve(Service(), 0)
    client = await rpc.connect(server.address)
    pool = await cluster.connect("s", endpoints=[server.address])
    registered = await cluster.serve(ECHO, TCP, name="s", registry=open_registry("memory://loops"))
    callers = dubbo.Client(f"dubbo://{provider.address}")
    stub = callers.service(Service)
    assert await stub.echo("x") == "x"
    return {
        "client": client,
        "pool": pool,
        "server": server,
        "registered": registered,
        "provider": provider,
        "callers": callers,
        "stub": stub,
    }


async def _close(made: dict[str, Any]) -> None:
    for name in ("client", "pool", "callers", "server", "registered", "provider"):
        await made[name].close(drain_ms=0)


Use = Callable[[dict[str, Any]], Any]
USES: dict[str, Use] = {
    "client.call": lambda made: made["client"].call("echo", b"x"),
    "client.call_many": lambda made: made["client"].call_many("echo", [b"x"]),
    "client.call_soon": lambda made: made["client"].call_soon("echo", b"x", lambda *_: None),
    "client.notify": lambda made: made["client"].notify("echo", b"x"),
    "client.map": lambda made: anext(made["client"].map("echo", [b"x"])),
    "client.service": lambda made: made["client"].service(Service).echo("x"),
    "client.close": lambda made: made["client"].close(),
    "pool.call": lambda made: made["pool"].call("echo", b"x"),
    "pool.call_many": lambda made: made["pool"].call_many("echo", [b"x"]),
    "pool.call_soon": lambda made: made["pool"].call_soon("echo", b"x", lambda *_: None),
    "pool.notify": lambda made: made["pool"].notify("echo", b"x"),
    "pool.map": lambda made: anext(made["pool"].map("echo", [b"x"])),
    "pool.service": lambda made: made["pool"].service(Service).echo("x"),
    "pool.close": lambda made: made["pool"].close(),
    "server.close": lambda made: made["server"].close(),
    "server.serve_forever": lambda made: made["server"].serve_forever(),
    "server.set_limit": lambda made: made["server"].set_limit(5),
    "registered.close": lambda made: made["registered"].close(),
    "registered.ready": lambda made: made["registered"].ready(5),
    "registered.serve_forever": lambda made: made["registered"].serve_forever(),
    "registered.set_limit": lambda made: made["registered"].set_limit(5),
    "provider.close": lambda made: made["provider"].close(),
    "provider.serve_forever": lambda made: made["provider"].serve_forever(),
    "provider.set_limit": lambda made: made["provider"].set_limit(5),
    "callers.service": lambda made: made["callers"].service("a.B"),
    "callers.ready": lambda made: made["callers"].ready(made["stub"]),
    "callers.echo": lambda made: made["callers"].echo(made["stub"]),
    "callers.services": lambda made: made["callers"].services(),
    "callers.methods": lambda made: made["callers"].methods(made["stub"]),
    "callers.close": lambda made: made["callers"].close(),
    "stub.echo": lambda made: made["stub"].echo("x"),
    "send": lambda made: dubbo.send(made["stub"].echo, "x"),
}


async def _said(use: Use, made: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match) as raised:
        result = use(made)
        if isinstance(result, Awaitable):
            async with asyncio.timeout(10):
                await result
    check_said(raised.value, "event loop")


@pytest.mark.parametrize("name", USES)
def test_what_belongs_to_another_loop_says_so(name: str) -> None:
    own = uvloop.new_event_loop()
    made = own.run_until_complete(_made())
    for runner in (asyncio.new_event_loop, uvloop.new_event_loop):
        other = runner()
        other.run_until_complete(_said(USES[name], made, "belongs to another event loop"))
        other.close()
    # On its own it works as before.
    assert own.run_until_complete(made["client"].call("echo", b"y")) == b"y"
    assert own.run_until_complete(made["pool"].call("echo", b"y")) == b"y"
    assert own.run_until_complete(made["stub"].echo("y")) == "y"
    own.run_until_complete(_close(made))
    own.close()


def use_on_a_closed_loop() -> None:
    """In a process of its own, for what nobody could close."""
    # asyncio's own: uvloop waits in ``close`` for what is open.
    own = asyncio.new_event_loop()
    made = own.run_until_complete(_made())
    own.close()

    async def elsewhere() -> None:
        for use in USES.values():
            await _said(use, made, "belongs to an event loop that is closed")

    asyncio.run(elsewhere())
    for name in ("client.call", "pool.call", "stub.echo", "server.set_limit"):
        with pytest.raises(UsageError, match="event loop that is closed"):
            USES[name](made)
    print("said")


def test_what_belongs_to_a_closed_loop_says_so() -> None:
    script = "import tests.rpc.test_other_loops as here; here.use_on_a_closed_loop()"
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=root
    )
    assert run.stdout == "said\n", run.stderr


def test_what_belongs_to_a_loop_in_another_thread_says_so() -> None:
    async def work() -> None:
        made = await _made()
        seen: list[tuple[str, BaseException | None]] = []

        def elsewhere() -> None:
            for name, use in USES.items():
                if name.split(".")[-1] in ("call", "call_many", "call_soon", "notify", "set_limit"):
                    try:
                        use(made)
                        seen.append((name, None))
                    except BaseException as error:
                        seen.append((name, error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(seen) == 11
        for name, error in seen:
            assert isinstance(error, UsageError), (name, error)
            assert "runs in another thread" in str(error)
        # Counters may be read from anywhere.
        for name in ("client", "pool", "server", "registered", "provider"):
            await asyncio.to_thread(made[name].statistics)
        await _close(made)

    uvloop.run(work())


def test_a_call_may_be_made_before_its_loop_runs() -> None:
    own = uvloop.new_event_loop()
    made = own.run_until_complete(_made())
    first, second = made["client"].call("echo", b"1"), made["pool"].call("echo", b"2")
    assert own.run_until_complete(asyncio.wait_for(first, 10)) == b"1"
    assert own.run_until_complete(asyncio.wait_for(second, 10)) == b"2"
    own.run_until_complete(_close(made))
    own.close()


def test_what_is_closed_may_be_closed_again_wherever() -> None:
    own = uvloop.new_event_loop()
    made = own.run_until_complete(_made())
    own.run_until_complete(_close(made))
    own.close()

    async def elsewhere() -> None:
        await _close(made)

    asyncio.run(elsewhere())
