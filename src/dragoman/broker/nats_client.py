"""The client of the package nats-py, with what it leaves behind put away.

Imported only where that package is there. ``nats_opening.open_nats`` makes it, its store closes it.
The invariant: a connection that came to nothing is closed at once, not when it is collected.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from nats.aio.client import Client

from dragoman.observe.faults import place_of


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

    async def leave(self) -> None:
        """Close the connection for good, whether its server is there or not."""
        if not self.is_connected:
            # What is left for a server that is away: closing would write it to a socket that is
            # gone, fail, and leave the client's tasks behind.
            self._pending.clear()
            self._pending_data_size = 0
        try:
            await self.close()
        except (OSError, RuntimeError) as error:
            # The server went in this very moment.
            logging.getLogger(__name__).debug("closing: %s", place_of(error))
        finally:
            self.hang_up()
