"""Where a server listens: one port for all families, nobody else's Unix socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from dragoman import rpc
from dragoman.errors import ConnectError
from tests.cluster.pools import run

ECHO = {"echo": lambda body: body}


def families() -> bool:
    """Whether this machine has both."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


both = pytest.mark.skipif(not families(), reason="this machine has no IPv6")


@both
def test_a_name_of_two_families_has_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()

        async def two(*_: Any, **__: Any) -> Any:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
            ]

        real = loop.getaddrinfo
        loop.getaddrinfo = two  # type: ignore[method-assign]
        try:
            server = await rpc.serve(ECHO, "localhost:0")
        finally:
            loop.getaddrinfo = real  # type: ignore[method-assign]
        async with server:
            for host in ("127.0.0.1", "[::1]"):
                async with await rpc.connect(f"{host}:{server.address.port}") as client:
                    assert await client.call("echo", b"x") == b"x"
            assert server.statistics().connections == 2

    asyncio.run(work())


@both
def test_all_addresses_are_those_of_both_families() -> None:
    async def work() -> None:
        async with await rpc.serve(ECHO, "[::]:0") as server:
            for host in ("127.0.0.1", "[::1]"):
                async with await rpc.connect(f"{host}:{server.address.port}") as client:
                    assert await client.call("echo", b"x") == b"x"

    run(work)


def test_a_unix_socket_that_somebody_listens_on_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        at = f"unix:{tmp_path}/s"
        async with await rpc.serve(ECHO, at), await rpc.connect(at, reconnect=False) as client:
            with pytest.raises(ConnectError, match="already in use"):
                await rpc.serve(ECHO, at)
            assert await client.call("echo", b"x") == b"x"
            async with await rpc.connect(at) as other:
                assert await other.call("echo", b"y") == b"y"

    run(work)


def test_a_unix_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/s")

    async def work() -> None:
        at = f"unix:{tmp_path}/s"
        async with await rpc.serve(ECHO, at), await rpc.connect(at) as client:
            assert await client.call("echo", b"x") == b"x"

    run(work)
