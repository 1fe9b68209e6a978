"""The chain that is shared: an etcd, two healthy providers, and consumer agents of each temper."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.chain import Chain, Pair, Program, chain, start

TIMES = ("--header-timeout-ms", "400", "--body-timeout-ms", "400", "--idle-timeout-ms", "500")
FEW = ("--connections-max", "4", "--queue-max", "8", "--timeout-ms", "2000")
FAULTS: dict[str, tuple[str, ...]] = {
    "garbage": (),
    "twice": (),
    "never": ("--fault-until", "5"),
    "reject": (),
    "close": (),
    "hang": (),
}


@dataclass(frozen=True)
class Mesh:
    """What the tests share. ``agent`` has the defaults, ``hasty`` short time limits, and ``narrow``
    few places."""

    chain: Chain
    agent: Program
    hasty: Program
    narrow: Program
    first: Pair
    slow: Pair
    faulty: dict[str, Pair]


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Healthy at the beginning and at the end of every test that uses it.

    Each faulty provider, healthy for its first call, is in a group of its own.
    """
    with chain(tmp_path_factory.mktemp("faults")) as made:
        pairs = [made.pair(name, ("--delay-ms", "20")) for name in ("first", "second")]
        pairs.append(made.pair("tiny", ("--delay-ms", "50"), ("--group", "tiny", "--limit", "2")))
        pairs.append(made.pair("slow", ("--delay-ms", "400"), ("--group", "slow")))
        faulty = {
            name: made.pair(
                name,
                ("--delay-ms", "1", "--fault", name, "--fault-after", "1", *more),
                ("--group", name, "--limit", "8"),
            )
            for name, more in FAULTS.items()
        }
        # The 20th call of this one takes 5 s longer.
        late = ("--fault", "slow", "--fault-after", "19", "--fault-until", "20")
        pairs.append(made.pair("lazy", ("--delay-ms", "1", *late), ("--group", "lazy")))
        # Of two providers in the group "mixed", one rejects calls 2 to 5.
        until = ("--fault", "reject", "--fault-after", "1", "--fault-until", "5")
        pairs.append(made.pair("moody", ("--delay-ms", "1", *until), ("--group", "mixed")))
        pairs.append(made.pair("steady", ("--delay-ms", "1"), ("--group", "mixed")))
        agent = made.consumer_agent("consumer")
        hasty = made.consumer_agent("hasty", *TIMES)
        narrow = made.consumer_agent("narrow", *FEW)

        async def begin() -> None:
            await made.etcd.start()
            everybody = [*pairs, *faulty.values()]
            programs = [each for pair in everybody for each in (pair.provider, pair.agent)]
            await start(*programs, agent, hasty, narrow)
            await asyncio.gather(*(each.settled(2) for each in (agent, hasty, narrow)))
            groups = ("tiny", "slow", "lazy", *FAULTS)
            await asyncio.gather(*(agent.settled(1, group) for group in groups))

        asyncio.run(begin())
        yield Mesh(made, agent, hasty, narrow, pairs[0], pairs[3], faulty)
