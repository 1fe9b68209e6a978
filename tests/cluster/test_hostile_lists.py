"""Whatever the shape of a registry full of dead entries: no piece of work on the loop is long.

The loop is a real one, the hosts are loopback addresses that refuse. What is listed comes, changes
in part and goes, as it does where a registry gives whole lists.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest
import uvloop

from dragoman.cluster.directory import Directory
from dragoman.cluster.options import Options
from dragoman.registry.changes import Snapshots
from dragoman.registry.registration import Registration
from tests.slices import Slices

COUNT = 10_000
LONGEST_MS = 12.0


def host(number: int) -> str:
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


SHAPES: dict[str, Callable[[int], Registration]] = {
    "of as many interfaces": lambda n: Registration(interface=f"d.D{n}", host=host(n), port=1),
    "of one interface": lambda n: Registration(interface="g.G", host=host(n), port=1),
    "in as many groups of one interface": lambda n: Registration(
        interface="g.G", host=host(n), port=1, group=f"g{n}"
    ),
    "in as many versions at one address": lambda n: Registration(
        interface="g.G", host="127.0.0.1", port=1, version=f"1.{n}"
    ),
    "at as many ports with as many tokens": lambda n: Registration(
        interface="g.G", host="127.0.0.1", port=n + 1, token=f"t{n}"
    ),
    "with as many protocols": lambda n: Registration(
        interface="g.G", host=host(n), port=1, protocol=f"p{n}"
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_a_list_holds_the_loop(shape: str) -> None:
    make = SHAPES[shape]
    good = Registration(interface="a.B", host="127.0.0.1", port=2)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        directory = Directory(loop, Options())
        told = asyncio.Event()

        snapshots = Snapshots(loop, directory.change, told.set)

        async def take(registrations: list[Registration]) -> None:
            told.clear()
            snapshots.take(registrations)
            async with asyncio.timeout(60):
                await told.wait()

        listed = [good, *(make(n) for n in range(COUNT))]
        again = [make(n) for n in range(COUNT)][COUNT // 2 :]
        gc.disable()
        async with Slices() as slices:
            await take(listed)
            # The same again, but for some; the rest is not gone into.
            await take([good, *again])
            await take([good])
            assert len(snapshots) == 1
        gc.enable()
        assert slices.longest_ms <= LONGEST_MS, slices.longest_ms
        assert list(directory.find("a.B").endpoints) == ["127.0.0.1:2"]
        await directory.close()

    uvloop.run(work())
