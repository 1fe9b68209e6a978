"""The demo consumer as a server: ``GET /invoke`` asks the agent for a hash and checks the answer.

``dragoman demo consumer`` runs it. The work on each request is in ``dragoman.demo.invoke``; here
are only the listening socket, the signals and the end.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import nullcontext
from urllib.parse import urlsplit

from dragoman.demo.invoke import InvokePool
from dragoman.errors import UsageError
from dragoman.reasons import reason
from dragoman.stopping import told_to_stop

BACKLOG = 4096


def parse_agent(url: str) -> tuple[str, int]:
    """Host and port of the agent's URL; ``UsageError`` if it is not ``http://HOST:PORT``."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "http" or not parts.hostname or port is None or parts.path not in ("", "/"):
        raise UsageError(f"--agent: http://HOST:PORT was expected, not {url!r}")
    return parts.hostname, port


async def serve(
    *,
    host: str,
    port: int,
    agent: str,
    connections_max: int = 4096,
    timeout_s: float = 30.0,
    ready: Callable[[str, int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT (or until ``stop`` is set, then no signal is handled).

    ``ready`` is called with the address once connections are accepted; port 0 takes any free port.
    Raises ``UsageError`` if the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    if not 0 <= port <= 65535:
        raise UsageError(f"--port must be 0 to 65535, not {port}")
    agent_host, agent_port = parse_agent(agent)
    pool = InvokePool(agent_host, agent_port, connections_max=connections_max, timeout_s=timeout_s)
    try:
        server = await loop.create_server(pool.accept, host, port, backlog=BACKLOG)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "the port is in use" if taken else reason(error)
        raise UsageError(f"cannot listen on {host}:{port}: {why}") from error
    stopped = stop if stop is not None else asyncio.Event()
    with told_to_stop(stopped.set) if stop is None else nullcontext():
        pool.start(loop)
        try:
            if ready is not None:
                ready(*server.sockets[0].getsockname()[:2])
            await stopped.wait()
        finally:
            server.close()
            pool.close()
            await server.wait_closed()
            await pool.wait_closed()
