"""Pages about thousands of services that are in use do not hold the calls up."""

from __future__ import annotations

import asyncio
import gc

import uvloop

from dragoman.cluster.directory import IDLE_SHOWN_MAX, Directory
from dragoman.cluster.options import Options
from dragoman.registry.registration import Registration
from dragoman.testing.services import submit
from tests.slices import Slices

SERVICES = 5000
ENDPOINTS = 20_000
LONGEST_MS = 8.0


def test_a_page_about_thousands_of_busy_services_is_made_some_a_turn() -> None:
    async def work() -> None:
        directory = Directory(asyncio.get_running_loop(), Options())
        directory.change(
            (None, Registration(interface=f"a.B{n}", host="127.0.0.1", port=1))
            for n in range(SERVICES)
        )
        directory.change(
            (None, Registration(interface="a.Wide", host=f"127.{n // 250}.0.{n % 250 + 1}", port=1))
            for n in range(ENDPOINTS)
        )
        ends: list[object] = []
        for n in range(SERVICES):
            submit(directory.find(f"a.B{n}"), b"m", b"", ends.append, ends.append, timeout_ms=50)
        while len(ends) < SERVICES:
            await asyncio.sleep(0.02)
        gc.disable()
        async with Slices() as slices:
            pages = await directory.status()
        gc.enable()
        assert slices.longest_ms <= LONGEST_MS, slices.longest_ms
        assert len(pages) == SERVICES + 1
        (wide,) = (each for each in pages if each["service"] == "a.Wide")
        assert wide["endpoints_known"] == ENDPOINTS
        assert len(wide["endpoints"]) == IDLE_SHOWN_MAX
        await directory.close()

    uvloop.run(work())
