"""A provider written with the SDK, as a program: ``python -m tests.dubbo.sdk_provider REGISTRY``.

Prints its port once it is registered, and stops on SIGTERM as ``dubbo.run`` does.
"""

from __future__ import annotations

import asyncio
import os
import sys

from dragoman import dubbo


@dubbo.service("com.example.Work", version="1.0")
class Work:
    """What the tests call."""

    async def who(self) -> int:
        """The process."""
        return os.getpid()

    async def nap(self, seconds: float) -> int:
        """The process, after a while."""
        await asyncio.sleep(seconds)
        return os.getpid()


def main() -> None:
    """Serve until told to stop."""
    registry, limit = sys.argv[1], int(sys.argv[2])

    def ready(server: dubbo.Server) -> None:
        print(server.address.port, flush=True)

    dubbo.run(Work(), 0, registry=registry, limit=limit, lease_ttl_s=2, ready=ready)


if __name__ == "__main__":
    main()
