"""The contestant that all this is about: ``dragoman.rpc``, with everything that it does on.

Methods by name, credits, a deadline on every call. The invariant: its client's methods are called
as a user would call them; nothing stands between them and the styles' loops.
"""

from __future__ import annotations

from collections.abc import Callable

from dragoman import rpc
from dragoman.bench.rpc.contestant import ECHO, HOST, NOTE, AsyncContestant

_NOTED = "noted"
TIMEOUT_MS = 30_000


class LibraryConnection:
    """See ``Connection``: the client's own methods, and what the server noted."""

    def __init__(self, client: rpc.Client) -> None:
        self._client = client
        self.call = client.call
        self.call_soon = client.call_soon
        self.call_many = client.call_many
        self.map = client.map
        self.notify = client.notify
        self.close = client.close

    async def noted(self) -> int:
        """See ``Connection``."""
        return int(await self._client.call(_NOTED))


class Library(AsyncContestant):
    """See the module."""

    name = "dragoman"
    title = "dragoman.rpc"
    styles = frozenset({"await", "soon", "many", "map", "notify", "lone", "bulk", "idle"})

    async def serve(self, ready: Callable[[str], None]) -> None:
        """See ``AsyncContestant``."""
        noted = 0

        def echo(body: bytes) -> bytes:
            return body

        def note(_body: bytes) -> bytes:
            nonlocal noted
            noted += 1
            return b""

        def tell(_body: bytes) -> bytes:
            return b"%d" % noted

        functions = {ECHO: echo, NOTE: note, _NOTED: tell}
        async with await rpc.serve(functions, f"{HOST}:0") as server:
            ready(str(server.address))
            await server.serve_forever()

    async def connect(self, address: str) -> LibraryConnection:
        """See ``AsyncContestant``."""
        return LibraryConnection(await rpc.connect(address, timeout_ms=TIMEOUT_MS))
