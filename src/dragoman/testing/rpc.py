"""``rpc.serve`` and ``rpc.connect`` on a simulated loop: the same life for the same seed.

A client draws its identity from the operating system and its backoff from a source of its own; here
both come from the loop's seed. ``at_rest`` is what every test of clients and servers ends with.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from dragoman.rpc import Client, Server, link, server
from dragoman.rpc.backoff import Backoff
from dragoman.testing.loop import SimulatedLoop, simulate

Result = TypeVar("Result")


class InOrder(dict[Any, None]):
    """As much of a set as servers need for their sessions, in the order in which they came."""

    def add(self, thing: Any) -> None:
        self[thing] = None

    def discard(self, thing: Any) -> None:
        self.pop(thing, None)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Identities and backoffs drawn from ``seed``, and servers that go through their sessions in
    order."""
    source = random.Random(seed)
    with (
        mock.patch.object(os, "urandom", source.randbytes),
        mock.patch.object(server, "set", InOrder, create=True),
        mock.patch.object(link, "Backoff", lambda: Backoff(source=random.Random(source.random()))),
    ):
        yield


def simulate_rpc(seed: int, work: Callable[[SimulatedLoop], Awaitable[Result]]) -> Result:
    """``simulate`` for work with clients and servers of ``dragoman.rpc``."""
    with seeded(seed):
        return simulate(seed, work)


def at_rest(*ends: Client | Server | Any) -> None:
    """Every counter of what is outstanding is back at zero."""
    for end in ends:
        now: Any = end.statistics()
        if isinstance(end, Client):
            left = (now.calls, now.bytes, now.waiting, now.waiting_bytes, end.wanted)
            assert left == (0,) * 5, now
        else:
            assert (now.in_progress, now.bytes) == (0, 0), now
            assert now.granted == (now.limit if now.clients else 0), now
