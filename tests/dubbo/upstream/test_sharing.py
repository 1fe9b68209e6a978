"""A provider whose pool is smaller than is said, or shared with others, beside one with room."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from dragoman import dubbo


@dubbo.service("com.example.Naps")
class Naps:
    async def nap(self, ms: int) -> int:
        await asyncio.sleep(ms / 1000)
        return ms


def where(*listed: tuple[dubbo.Server, int]) -> str:
    """A list of providers without agents, with the limits that are said of them."""
    return "static://" + ",".join(
        f"{server.address}?protocol=dubbo&limit={limit}" for server, limit in listed
    )


async def busy(client: dubbo.Client, callers: int, each: int) -> Counter[str]:
    """So many callers, one call after the other: how all of them ended."""
    naps = client.service(Naps)
    ends: Counter[str] = Counter()

    async def caller() -> None:
        for _ in range(each):
            try:
                await naps.nap(5)
                ends["ok"] += 1
            except dubbo.DragomanError as error:
                ends[type(error).__name__] += 1

    await client.ready(naps)
    await asyncio.gather(*(caller() for _ in range(callers)))
    return ends


def test_no_caller_sees_an_exhausted_pool_while_another_provider_has_room() -> None:
    async def scenario() -> None:
        small = await dubbo.serve(Naps(), 0, limit=3)
        large = await dubbo.serve(Naps(), 0, limit=200)
        began_s = time.monotonic()
        async with dubbo.Client(where((small, 4), (large, 100)), timeout_ms=60_000) as client:
            assert await busy(client, 24, 100) == {"ok": 2400}
        counted = small.statistics()
        assert counted.replies > 100
        # The fourth place is tried again from time to time, and less and less often.
        assert 1 <= counted.rejected < 60 + 4 * (time.monotonic() - began_s)
        await small.close()
        await large.close()

    asyncio.run(scenario())


def test_processes_that_share_a_pool_lose_no_call_while_another_provider_has_room() -> None:
    async def scenario() -> None:
        small = await dubbo.serve(Naps(), 0, limit=40)
        large = await dubbo.serve(Naps(), 0, limit=400)
        listed = where((small, 40), (large, 200))
        began_s = time.monotonic()
        async with (
            dubbo.Client(listed, timeout_ms=60_000) as one,
            dubbo.Client(listed, timeout_ms=60_000) as other,
        ):
            ends = await asyncio.gather(busy(one, 150, 20), busy(other, 150, 20))
        assert ends == [{"ok": 3000}, {"ok": 3000}]
        counted = small.statistics()
        assert counted.replies > 200
        assert counted.rejected < 600 + 8 * (time.monotonic() - began_s)
        await small.close()
        await large.close()

    asyncio.run(scenario())


def test_a_pool_that_grows_is_used_further() -> None:
    async def scenario() -> None:
        server = await dubbo.serve(Naps(), 0, limit=5)
        large = await dubbo.serve(Naps(), 0, limit=400)
        listed = where((server, 40), (large, 400))
        async with dubbo.Client(listed, timeout_ms=60_000) as client:
            await busy(client, 200, 10)
            assert server.statistics().in_progress_max == 5
            server.set_limit(40)
            async with asyncio.timeout(60):
                while server.statistics().in_progress_max < 12:
                    await busy(client, 200, 5)
        await server.close()
        await large.close()

    asyncio.run(scenario())
