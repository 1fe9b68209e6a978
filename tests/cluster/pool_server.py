"""A server in a process of its own, for tests that kill it: prints its port, serves until killed.

``python -m tests.cluster.pool_server DELAY_MS [NAME REGISTRY_URL]``
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import uvloop

from dragoman import cluster, rpc


async def main(arguments: list[str]) -> None:
    delay_s = float(arguments[0]) / 1000

    async def whoami(body: bytes) -> bytes:
        await asyncio.sleep(delay_s)
        return b"%d %s" % (os.getpid(), body)

    server: Any
    if len(arguments) > 1:
        server = await cluster.serve(
            {"whoami": whoami},
            "127.0.0.1:0",
            name=arguments[1],
            registry=arguments[2],
            lease_ttl_s=3,
        )
    else:
        server = await rpc.serve({"whoami": whoami}, "127.0.0.1:0")
    print(server.address.port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
