"""``simulate``: a piece of work on a simulated loop, the same life for the same seed.

Clients and pools draw their identities from the operating system, and backoff and balance draw from
sources of their own; here all of them draw from the seed. ``at_rest`` is the check that tests of
clients and servers end with.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from dragoman.rpc import backoff, server
from dragoman.testing.loop import SimulatedLoop

Result = TypeVar("Result")


class _InOrder(dict[Any, None]):
    """As much of a set as servers need for their sessions, in the order in which they came."""

    add = dict.setdefault

    def discard(self, thing: Any) -> None:
        self.pop(thing, None)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Whatever is drawn in this process comes from ``seed``, ``random`` and ``os.urandom`` too, and
    servers go through their sessions in order."""
    source = random.Random(seed)
    state = random.getstate()
    random.seed(seed)
    try:
        with (
            mock.patch.object(os, "urandom", source.randbytes),
            mock.patch.object(backoff, "_random", source),
            mock.patch.object(server, "set", _InOrder, create=True),
        ):
            yield
    finally:
        random.setstate(state)


def simulate(seed: int, work: Callable[[SimulatedLoop], Awaitable[Result]]) -> Result:
    """Run ``work(loop)`` on a new ``SimulatedLoop`` of ``seed`` and return its result.

    Tasks that are left over are cancelled. Raises what ``work`` raises, with the seed in a note;
    StalledError when ``work`` waits for what can never come; AssertionError when anything raised
    where nobody could catch it (in a callback, or in a task that nobody awaits).
    """
    with seeded(seed):
        loop = SimulatedLoop(seed)
        try:
            try:
                result = loop.run_until_complete(work(loop))
            finally:
                loop.check()
            return result
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            pending = asyncio.all_tasks(loop)
            for task in pending:
                task.cancel()
            if pending:
                loop.run_until_complete(asyncio.wait(pending))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


# Zero once nothing is outstanding, of clients, pools and servers.
_COUNTERS = ("calls", "bytes", "waiting", "waiting_bytes", "in_progress")


def at_rest(*ends: Any) -> None:
    """Assert that nothing is outstanding at clients, pools and servers of ``dragoman.rpc`` and
    ``dragoman.cluster``: no call, no waiting call, no bytes, no credit that is lost."""
    for end in ends:
        now: Any = end.statistics()
        left = {name: getattr(now, name, 0) for name in _COUNTERS}
        assert not any(left.values()), f"{end!r}: {left}"
        assert not getattr(end, "wanted", 0), f"{end!r} still waits for {end.wanted} credits"
        if hasattr(now, "granted"):
            granted = now.limit if now.clients else 0
            assert now.granted == granted, f"{end!r}: {now.granted} credits, not {granted}"
