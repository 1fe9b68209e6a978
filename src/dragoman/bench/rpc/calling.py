"""The calls of an asyncio contestant's client: each style is one loop.

Used by ``client`` through ``AsyncContestant.caller``. The invariants: before anything is measured
each style has been through distinct bodies and every reply was compared; a measurement is a number
of calls fixed beforehand, from the pace of the warm-up, so that no clock is read and nothing is
outstanding when it ends; the loops add as little as they can, and the same to everybody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, repeat
from resource import RUSAGE_SELF, getrusage
from typing import Any

from dragoman.bench.rpc.contestant import ECHO, NOTE, BenchError, Cpu, Sample, Work
from dragoman.bench.rpc.latency import summary

# Any: what is not there is not a style of the contestant.
Connections = Sequence[Any]
StyleLoop = Callable[[Connections, Work, bytes, int], Awaitable[list[int] | None]]

# A connection is asked to open so many at once: no more than a listener's backlog.
OPENING_AT_ONCE = 100


def cpu_now() -> Cpu:
    """The CPU time that this process has used until now."""
    used = getrusage(RUSAGE_SELF)
    return Cpu(used.ru_utime, used.ru_stime)


class AsyncCaller:
    """The client's side of an ``AsyncContestant``; see ``BenchCaller``."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        styles: Mapping[str, StyleLoop] | None = None,
        check: Callable[[Connections, Work], Awaitable[None]] | None = None,
    ) -> None:
        """``styles`` and ``check`` take the place of this module's where there are no calls."""
        self._styles = styles or STYLES
        self._check = check or _check
        self._connect = connect
        self._runner = asyncio.Runner(loop_factory=new_loop)
        self._connections: list[Any] = []

    def prepare(self, work: Work) -> None:
        """See ``BenchCaller``."""
        self._work = work
        self._runner.run(self._prepare(work))

    def measure(self) -> Sample:
        """See ``BenchCaller``."""
        return self._runner.run(self._measure(self._work))

    def finish(self) -> None:
        """See ``BenchCaller``."""
        self._runner.run(self._close())

    def close(self) -> None:
        """Close the loop; a process that ends need not."""
        self._runner.close()

    async def _prepare(self, work: Work) -> None:
        while (missing := work.connections - len(self._connections)) > 0:
            opening = [self._connect() for _ in range(min(missing, OPENING_AT_ONCE))]
            self._connections += await asyncio.gather(*opening)
        if work.style == "idle":
            return
        self._body = os.urandom(work.size)
        self._run = self._styles[work.style]
        await self._check(self._connections, work)
        # Longer and longer until it says something about the pace.
        rounds, took_s = 1, 0.0
        warm_s = min(0.3, work.seconds / 2)
        while True:
            started_s = time.perf_counter()
            await self._run(self._connections, work, self._body, rounds)
            took_s = time.perf_counter() - started_s
            if took_s >= warm_s / 2:
                break
            rounds = max(2 * rounds, min(10 * rounds, int(rounds * warm_s / (took_s + 1e-6))))
        self._rounds = max(1, round(rounds * work.seconds / took_s))

    async def _measure(self, work: Work) -> Sample:
        before = cpu_now()
        started_s = time.perf_counter()
        if work.style == "idle":
            await asyncio.sleep(work.seconds)
            calls, latencies = 0, None
        else:
            latencies = await self._run(self._connections, work, self._body, self._rounds)
            calls = self._rounds * work.in_flight * work.batch
        seconds = time.perf_counter() - started_s
        after = cpu_now()
        cpu = Cpu(after.user_s - before.user_s, after.system_s - before.system_s)
        return Sample(calls, seconds, cpu, summary(latencies) if latencies else None)

    async def _close(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.close()


async def _check(connections: Connections, work: Work) -> None:
    """A round of distinct bodies through the style's own method; every reply is compared."""
    count = min(work.in_flight * work.batch, 1000)
    bodies = [os.urandom(work.size) for _ in range(min(count, max(1, 2**24 // (work.size + 1))))]
    for connection in connections[:8]:
        if work.style == "soon":
            replies = await _replies_soon(connection, bodies)
        elif work.style in ("many", "bulk"):
            replies = list(await connection.call_many(ECHO, bodies))
        elif work.style == "map":
            replies = [
                reply async for reply in connection.map(ECHO, bodies, in_flight=work.in_flight)
            ]
        else:
            replies = list(await asyncio.gather(*(_call(connection, body) for body in bodies)))
        # As bytes: some give a view, and not all views compare.
        if [bytes(reply) for reply in replies] != bodies:
            raise BenchError(f"{work.style}: a reply differs from what was sent")


async def _call(connection: Any, body: bytes) -> Any:
    return await connection.call(ECHO, body)


async def _replies_soon(connection: Any, bodies: list[bytes]) -> list[Any]:
    replies: dict[int, Any] = {}
    done = asyncio.get_running_loop().create_future()

    def take(index: int, reply: Any, error: Exception | None) -> None:
        replies[index] = error or reply
        if len(replies) == len(bodies):
            done.set_result(None)

    for index, body in enumerate(bodies):
        connection.call_soon(ECHO, body, partial(take, index))
    await done
    return [replies[index] for index in range(len(bodies))]


async def _await(connections: Connections, work: Work, body: bytes, rounds: int) -> None:
    """``in_flight`` tasks, each awaiting one call after the other."""

    async def calls(call: Callable[[str, bytes], Awaitable[Any]]) -> None:
        for _ in repeat(None, rounds):
            await call(ECHO, body)

    methods = cycle([connection.call for connection in connections])
    await asyncio.gather(*(calls(next(methods)) for _ in range(work.in_flight)))


async def _soon(connections: Connections, work: Work, body: bytes, rounds: int) -> None:
    """``in_flight`` calls outstanding; each reply's callback makes the next call."""
    loop = asyncio.get_running_loop()

    async def calls(connection: Any, in_flight: int) -> None:
        done = loop.create_future()
        call_soon = connection.call_soon
        more = repeat(None, in_flight * (rounds - 1))
        unanswered = in_flight

        def on_reply(_reply: Any, error: Exception | None) -> None:
            nonlocal unanswered
            if error is not None and not done.done():
                done.set_exception(error)
            for _ in more:  # at most once: the cheapest way to count
                call_soon(ECHO, body, on_reply)
                return
            unanswered -= 1
            if not unanswered and not done.done():
                done.set_result(None)

        for _ in range(in_flight):
            call_soon(ECHO, body, on_reply)
        await done

    await asyncio.gather(*(calls(each, n) for each, n in shared(connections, work.in_flight)))


async def _many(connections: Connections, work: Work, body: bytes, rounds: int) -> None:
    """``in_flight`` tasks, each awaiting one batch after the other."""
    bodies = [body] * work.batch

    async def calls(call_many: Callable[[str, list[bytes]], Awaitable[Any]]) -> None:
        for _ in repeat(None, rounds):
            await call_many(ECHO, bodies)

    methods = cycle([connection.call_many for connection in connections])
    await asyncio.gather(*(calls(next(methods)) for _ in range(work.in_flight)))


async def _map(connections: Connections, work: Work, body: bytes, rounds: int) -> None:
    """One iteration over replies a connection."""

    async def calls(connection: Any, in_flight: int) -> None:
        async for _ in connection.map(ECHO, repeat(body, rounds * in_flight), in_flight=in_flight):
            pass

    await asyncio.gather(*(calls(each, n) for each, n in shared(connections, work.in_flight)))


async def _notify(connections: Connections, work: Work, body: bytes, rounds: int) -> None:
    """``in_flight`` notes at a time; a call behind them shows that they were handled."""

    async def calls(connection: Any, burst: int) -> None:
        notify = connection.notify
        for _ in repeat(None, rounds):
            for _ in repeat(None, burst):
                notify(NOTE, body)
            await connection.call(ECHO, b"")

    before = await connections[0].noted()
    await asyncio.gather(*(calls(each, n) for each, n in shared(connections, work.in_flight)))
    handled = await connections[0].noted() - before
    if handled != rounds * work.in_flight:
        raise BenchError(f"notify: {rounds * work.in_flight} sent, {handled} handled")


async def _lone(connections: Connections, work: Work, body: bytes, rounds: int) -> list[int]:
    """One call at a time on one connection; what each took, in nanoseconds."""
    call = connections[0].call
    clock_ns = time.perf_counter_ns
    took_ns = [0] * rounds
    before_ns = clock_ns()
    for index in range(rounds):
        await call(ECHO, body)
        now_ns = clock_ns()
        took_ns[index] = now_ns - before_ns
        before_ns = now_ns
    return took_ns


def shared(connections: Connections, in_flight: int) -> list[tuple[Any, int]]:
    """``in_flight`` split as evenly as it goes; connections that get none are left out."""
    least, more = divmod(in_flight, len(connections))
    counts = [least + (index < more) for index in range(len(connections))]
    return [(each, count) for each, count in zip(connections, counts, strict=True) if count]


STYLES: dict[str, StyleLoop] = {
    "await": _await,
    "soon": _soon,
    "many": _many,
    "bulk": _many,
    "map": _map,
    "notify": _notify,
    "lone": _lone,
}
