"""The demo provider's twin over HTTP: an answer after so many milliseconds, so many at once.

``python -m benchmarks.agents.http_twin --port PORT --delay-ms 50 --limit 200``, on 127.0.0.1. What
a proxy for HTTP has behind it where the agents have the demo provider: each request is answered
with the same text, ``--delay-ms`` after it was read; one beyond ``--limit`` with 503 at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from typing import cast

import uvloop

from benchmarks.agents.proxies import ANSWER
from dragoman.harness.network import HOST
from dragoman.stopping import told_to_stop
from dragoman.wire.http1 import RequestDecoder, encode_response

BACKLOG = 4096


class Twin:
    """One provider: ``limit`` requests under way at most, each for ``delay_s``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_s: float, limit: int) -> None:
        self.loop = loop
        self.delay_s = delay_s
        self.limit = limit
        self.under_way = 0
        self.answer = encode_response(200, body=ANSWER.encode(), content_type="text/plain")
        self.full = encode_response(503, body=b"full", content_type="text/plain")


class Connection(asyncio.Protocol):
    """One connection of a proxy."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._decoder = RequestDecoder()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The proxy has connected."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Requests, or parts of them."""
        twin = self._twin
        self._decoder.receive_data(data)
        while self._decoder.poll() is not None:
            if twin.under_way >= twin.limit:
                self._transport.write(twin.full)
                continue
            twin.under_way += 1
            if twin.delay_s:
                twin.loop.call_later(twin.delay_s, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        self._twin.under_way -= 1
        if not self._transport.is_closing():
            self._transport.write(self._twin.answer)


async def serve(port: int, delay_s: float, limit: int) -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    twin = Twin(loop, delay_s, limit)
    stop = asyncio.Event()
    with told_to_stop(stop.set):
        server = await loop.create_server(lambda: Connection(twin), HOST, port, backlog=BACKLOG)
        gc.freeze()
        await stop.wait()
        server.close()


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agents.http_twin")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=50.0)
    parser.add_argument("--limit", type=int, default=200)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.delay_ms / 1000, options.limit))


if __name__ == "__main__":
    main()
