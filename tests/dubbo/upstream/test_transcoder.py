"""Large calls beside the loop that do not end as they began: late, left, lost, closed, killed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dragoman import rpc
from dragoman.budget import process_budget
from dragoman.dubbo.upstream import transcoder as module
from dragoman.dubbo.upstream.transcoder import Transcoder
from dragoman.errors import (
    Code,
    DeadlineError,
    DragomanError,
    OverloadError,
    UnavailableError,
)
from dragoman.wire.dubbo import invocation
from tests.dubbo.fake import Frame, Way, way
from tests.waiting import until

from .test_large_calls import agent, ask, elsewhere, run

HESSIAN2 = 2
# Many values, so that it is costly; not many bytes, so that it is quick.
LARGE = b"a.B\0m\0\0\0" + b'{"args":[[' + b",".join([b"0"] * 20_000) + b"]]}"
# Takes a process long enough to be met at it.
LONG = b"a.B\0m\0\0\0" + b'{"args":[[' + b",".join([b"{}"] * 600_000) + b"]]}"
SMALL = b"a.B\0m\0\0\0" + b'{"args":[1]}'
DONE = invocation.encode_reply("done", serialization=HESSIAN2)
MANY = invocation.encode_reply([0] * 200_000, serialization=HESSIAN2)


def done(asked: Frame) -> bytes:
    return asked.reply(DONE)


def many(asked: Frame) -> bytes:
    return asked.reply(MANY)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process for all jobs, so that what is not under way waits; what nobody waits for is
    ended at once."""
    monkeypatch.setattr(module, "LARGEST", (None,))
    monkeypatch.setattr(module, "DROPPED_S", 0.01)


class Beside:
    """A way with a transcoder, whose process can be held in the middle of a job."""

    def __init__(self, one: Way, transcoder: Transcoder) -> None:
        self.way = one
        self.transcoder = transcoder

    async def hold(self) -> int:
        """Have a process for the largest jobs that stands still; its number."""
        await self.way.call("json", LARGE, timeout_ms=60_000)
        pid = self.transcoder.pids[0]
        os.kill(pid, signal.SIGSTOP)
        return pid

    def call(self, body: bytes = LARGE, timeout_ms: int = 60_000) -> asyncio.Task[bytes]:
        """A call that begins."""
        return asyncio.ensure_future(self.way.call("json", body, timeout_ms=timeout_ms))

    async def under_way(self, jobs: int) -> None:
        """Wait until so many jobs have been handed over after the first."""
        await until(lambda: self.transcoder.jobs == jobs, 30.0)


@asynccontextmanager
async def beside(answer: Any = done, **options: Any) -> AsyncIterator[Beside]:
    """All is at rest at the end: no credit, byte or process is left behind."""
    gc.collect()  # what an earlier test left
    before = process_budget().used
    transcoder = Transcoder(asyncio.get_running_loop())
    pids: set[int] = set()
    try:
        async with way(answer, serialization="hessian2", transcoder=transcoder, **options) as one:
            made = Beside(one, transcoder)
            yield made
            pids.update(transcoder.pids)
            await until(lambda: one.egress.pool.in_use == 0, 30.0)
            assert one.egress.in_progress == 0
            assert one.egress.succeeded + sum(one.egress.errors.values()) == one.egress.requests
    finally:
        pids.update(transcoder.pids)
        await transcoder.close()
    assert not [pid for pid in pids if exists(pid)]
    assert process_budget().used == before


def children() -> set[int]:
    """The pids of this process's children, those that nobody has waited for included."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def exists(pid: int) -> bool:
    """Whether a process is there, if only as one that nobody has taken note of."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_large_call_that_is_late_is_answered_once_and_gives_back_its_place() -> None:
    async def scenario() -> None:
        async with beside(limit=1) as one:
            pid = await one.hold()
            with pytest.raises(DeadlineError):
                await one.call(timeout_ms=200)
            await until(lambda: one.way.egress.errors == {Code.DEADLINE: 1}, 30.0)
            assert len(one.way.provider.requests) == 1
            # What nobody waits for is ended, and others have its place.
            await until(lambda: not exists(pid), 30.0)
            assert await one.call() == b'"done"'

    asyncio.run(scenario())


def test_a_large_reply_that_is_not_read_in_time_gives_back_its_place() -> None:
    async def scenario() -> None:
        async with beside(many, limit=1) as one:
            pid = await one.hold()
            with pytest.raises(DeadlineError):
                await one.call(SMALL, timeout_ms=300)
            await until(lambda: one.way.egress.errors == {Code.DEADLINE: 1}, 30.0)
            assert one.way.egress.pool.in_use == 0
            await until(lambda: not exists(pid), 30.0)
            assert len(await one.call(SMALL)) == 400_001

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", [done, many])
def test_a_caller_that_cancels_a_large_call_leaves_nothing_behind(answer: Any) -> None:
    body = LARGE if answer is done else SMALL

    async def scenario() -> None:
        async with beside(answer, limit=3) as one:
            pid = await one.hold()
            before = one.transcoder.jobs
            calls = [one.call(body) for _ in range(3)]
            await one.under_way(before + 3)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: one.way.egress.errors == {Code.CANCELLED: 3}, 30.0)
            assert one.way.egress.pool.in_use == 0
            assert one.transcoder.bytes_waiting == 0
            await until(lambda: not exists(pid), 30.0)
            assert await one.call(body)

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", [done, many])
def test_a_caller_that_leaves_during_a_large_call_leaves_nothing_behind(answer: Any) -> None:
    body = LARGE if answer is done else SMALL

    async def scenario() -> None:
        async with beside(answer, limit=3) as one:
            pid = await one.hold()
            before = one.transcoder.jobs
            async with await rpc.connect(str(one.way.client.address)) as other:
                calls = [
                    asyncio.ensure_future(other.call("json", body, timeout_ms=60_000))
                    for _ in range(2)
                ]
                await one.under_way(before + 2)
                await other.close(drain_ms=0)
                for result in await asyncio.gather(*calls, return_exceptions=True):
                    assert isinstance(result, DragomanError)
            await until(lambda: one.way.egress.in_progress == 0, 30.0)
            assert one.way.egress.errors == {Code.CANCELLED: 2}
            await until(lambda: not exists(pid), 30.0)
            assert await one.call(body)

    asyncio.run(scenario())


def test_a_large_call_whose_provider_goes_meanwhile_may_go_elsewhere() -> None:
    async def scenario() -> None:
        async with beside() as one:
            pid = await one.hold()
            call = one.call()
            await one.under_way(2)
            await one.way.provider.close()
            await until(lambda: not one.way.egress.link.usable, 30.0)
            os.kill(pid, signal.SIGCONT)
            with pytest.raises(UnavailableError) as raised:
                await call
            assert raised.value.retry_safe
            assert len(one.way.provider.requests) == 1

    asyncio.run(scenario())


def test_a_large_reply_is_read_and_told_although_its_provider_has_gone() -> None:
    async def scenario() -> None:
        async with beside(many) as one:
            pid = await one.hold()
            call = one.call(SMALL)
            await one.under_way(3)
            await one.way.provider.close()
            await until(lambda: not one.way.egress.link.usable, 30.0)
            os.kill(pid, signal.SIGCONT)
            assert len(await call) == 400_001

    asyncio.run(scenario())


@pytest.mark.parametrize("asked", [1, 4])
def test_closing_during_large_calls_answers_each_and_leaves_no_process(asked: int) -> None:
    async def scenario() -> None:
        async with beside() as one:
            pid = await one.hold()
            before = one.transcoder.jobs
            calls = [one.call() for _ in range(asked)]
            await one.under_way(before + asked)
            await one.transcoder.close()
            assert not exists(pid)
            for result in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(result, UnavailableError), result
                assert module.CLOSING in str(result)
            # And nothing is begun any more.
            with pytest.raises(OverloadError):
                await one.call()

    asyncio.run(scenario())


def test_closing_before_the_first_process_has_begun_leaves_none() -> None:
    async def scenario() -> None:
        transcoder = Transcoder(asyncio.get_running_loop())
        told: list[tuple[int, str]] = []
        to = ("hessian2", "", "", "", "", None)
        transcoder.make(to, 1, 0, LARGE, lambda code, why, *_: told.append((code, why)))
        await transcoder.close()
        await asyncio.sleep(0.05)
        assert told == [(Code.UNAVAILABLE, module.CLOSING)]
        assert transcoder.pids == []

    before = children()
    asyncio.run(scenario())
    assert children() <= before


def test_a_process_that_is_killed_fails_its_call_with_a_reason_and_the_next_call_works() -> None:
    async def scenario() -> None:
        async with beside() as one:
            pid = await one.hold()
            call = one.call(LONG)
            # A shorter one would pass it on the way.
            await one.under_way(2)
            other = one.call()
            await one.under_way(3)
            os.kill(pid, signal.SIGCONT)
            await until(lambda: one.transcoder.begun == 2, 30.0)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(DragomanError, match="the process that transcodes large calls end"):
                await call
            # It takes one job with it.
            assert await other == b'"done"'
            assert await one.call() == b'"done"'
            assert not exists(pid)
            assert one.way.egress.errors == {Code.TOO_LARGE: 1}

    asyncio.run(scenario())


def test_a_job_that_was_not_begun_when_its_process_was_killed_is_begun_anew() -> None:
    async def scenario() -> None:
        async with beside() as one:
            pid = await one.hold()
            calls = [one.call(), one.call()]
            await one.under_way(3)
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.gather(*calls) == [b'"done"'] * 2
            assert not exists(pid)
            assert one.way.egress.errors == {}

    asyncio.run(scenario())


def test_a_job_that_two_processes_did_not_begin_fails_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with beside() as one:
            pid = await one.hold()
            call = one.call()
            await one.under_way(2)
            # The next one ends before it has read anything.
            with monkeypatch.context() as patched:
                patched.setattr(module, "START", "")
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(DragomanError, match="ended twice before it began this one"):
                    await call
            assert await one.call() == b'"done"'

    asyncio.run(scenario())


def test_what_waits_to_be_transcoded_counts_as_held_and_is_refused_where_there_is_no_room() -> None:
    async def scenario() -> None:
        budget = process_budget()
        size = 1 << 20
        body = LARGE[:-3] + b" " * (size - len(LARGE)) + LARGE[-3:]
        async with beside() as one:
            pid = await one.hold()
            before = budget.used
            calls = [one.call(body) for _ in range(4)]
            await one.under_way(5)
            assert budget.used - before >= 4 * size
            budget.limit(budget.used + size // 2)
            try:
                with pytest.raises(OverloadError):
                    await one.call(body)
            finally:
                budget.limit(0)
            os.kill(pid, signal.SIGCONT)
            assert await asyncio.gather(*calls) == [b'"done"'] * 4
            assert budget.used - before < size

    asyncio.run(scenario())


def test_an_answer_of_a_process_that_finds_no_room_fails_its_call_alone() -> None:
    async def scenario() -> None:
        budget = process_budget()
        async with beside(many) as one:
            pid = await one.hold()
            call = one.call(SMALL)
            await one.under_way(3)
            budget.limit(1)
            os.kill(pid, signal.SIGCONT)
            try:
                with pytest.raises(OverloadError, match="no memory is left here"):
                    await call
            finally:
                budget.limit(0)
            assert len(await one.call(SMALL)) == 400_001

    asyncio.run(scenario())


def test_an_agent_that_drains_during_a_large_call_ends_in_time_and_leaves_no_process() -> None:
    async def scenario(port: int) -> None:
        async with agent(port, "hessian2", drain_ms=300) as made:
            large = LARGE[LARGE.index(b"{") :]
            assert (await ask(made.port, large)).status == 200
            transcoder = made.providers.transcoder
            (pid, *_) = transcoder.pids
            os.kill(pid, signal.SIGSTOP)
            call = asyncio.ensure_future(ask(made.port, large))
            await until(lambda: transcoder.jobs == 2, 30.0)
            await made.drain()
            assert transcoder.pids == []
            assert not exists(pid)
            # Unless the connection was closed with the agent.
            with contextlib.suppress(EOFError, OSError):
                assert (await call).status in (502, 503, 504)

    with elsewhere(done) as port:
        run(scenario(port))


def test_a_process_stays_although_the_program_that_started_it_is_large() -> None:
    async def scenario() -> None:
        large = bytearray(300 << 20)
        large[::4096] = b"x" * len(large[::4096])
        async with beside() as one:
            assert await one.call() == b'"done"'
            (pid,) = one.transcoder.pids
            assert await one.call() == b'"done"'
            assert one.transcoder.pids == [pid]

    asyncio.run(scenario())
