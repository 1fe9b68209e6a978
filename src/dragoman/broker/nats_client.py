"""The client of the package nats-py, with what it leaves behind put away.

Imported only where that package is there. ``nats_store.open_nats`` makes it and closes it. The
invariant: a connection that came to nothing is closed at once, not when it is collected.
"""

from __future__ import annotations

from contextlib import suppress

from nats.aio.client import Client


class NatsClient(Client):
    """One connection to a cluster, which reconnects by itself."""

    async def _select_next_server(self) -> None:
        # Called for every try; the one before may have got as far as a connection.
        self.hang_up()
        await super()._select_next_server()

    def hang_up(self) -> None:
        """Close the connection as it is, without a word."""
        transport = self._transport
        if transport is not None:
            with suppress(OSError, RuntimeError):
                transport.close()  # type: ignore[no-untyped-call]
