"""Large requests and replies transcoded beside the loop, by processes that wait for such work.

To make a Dubbo request of 8 MB of JSON takes up to seconds, and for as long nobody else would be
answered. ``dubbo.upstream.egress`` hands what costs more than a few milliseconds to a
``Transcoder``, which gives it to a process (``dubbo.upstream.transcoding``): one for all jobs, and
one for those that are not the largest, so that they need not wait behind these. Not a thread:
values are Python objects, and the loop would wait for whoever makes, collects and frees millions of
them.

Processes are started by the first job and end after a while without any. The invariants: each job
ends exactly once, by its answer or by a failure, unless it is dropped; what waits is bounded in
number and bytes; a process that dies takes one job with it, and none that it has not begun: that
one is begun anew, once. The body of a job counts in the process's budget until its answer comes,
and from then on the answer; what the other processes have is theirs, and bounded for each. Large
bytes are neither joined nor copied here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import msgspec

from dragoman.budget import Budget, process_budget
from dragoman.dubbo.upstream.transcoding import LENGTHS, START, Answer, For, Head, Works
from dragoman.errors import Code
from dragoman.wire.room import Room

log = logging.getLogger("dragoman.dubbo")

MIB: Final = 1 << 20
JOBS_MAX: Final = 256
BYTES_MAX: Final = 64 * MIB
# For each process the largest job that it takes, None for any.
LARGEST: Final = (None, MIB)
IDLE_S: Final = 30.0
REAP_S: Final = 0.01
# How long a process may take to end by itself.
PATIENCE_S: Final = 2.0
# What nobody waits for any more may go on for so long before its process is ended: a new one takes
# about as long to start, and others may wait for the place.
DROPPED_S: Final = 0.25
# Of one process: an argument of 8 MiB as values takes up to 600 MB. The least is what its
# libraries map.
MEMORY_BYTES: Final = 1024 * MIB
MEMORY_BYTES_LEAST: Final = 384 * MIB

CLOSING: Final = "this program is closing"
KILLED: Final = (
    "the process that transcodes large calls ended while it was at this one:"
    " it most likely takes more memory than a call may have"
)
NOT_BEGUN: Final = "the process that transcodes large calls ended twice before it began this one"
# Where the package is.
PARENT: Final = str(Path(__file__).parents[3])

Done = Callable[[int, str, bytes, bytes], object]
Body = bytes | memoryview

NOTHING: Final = Answer(0)

_encode = msgspec.msgpack.Encoder().encode
_read_answer = msgspec.msgpack.Decoder(Answer).decode


class Job:
    """A job that has been handed over; ``drop`` it when nobody waits for it any more."""

    __slots__ = ("_held", "_owner", "again", "body", "done", "head", "process", "size")

    def __init__(self, owner: Transcoder, head: Head, body: Body, done: Done) -> None:
        self._owner = owner
        self.head = head
        # Kept until a process has it whole.
        self.body: Body = body
        self.again = False
        self.size = len(body)
        # Bytes that count in the budget.
        self._held = self.size
        self.done: Done | None = done
        self.process: _Process | None = None

    def drop(self) -> None:
        """Hear nothing of it."""
        self.done = None
        self._owner.dropped(self)

    def hold(self, size: int) -> bool:
        """From now on it has so many bytes; whether it may."""
        self.let_go()
        if self._owner.budget.hold(size):
            self._held = size
            return True
        return False

    def let_go(self) -> None:
        """It holds nothing any more."""
        self._owner.budget.let_go(self._held)
        self._held = 0

    def end(self, answer: Answer, made: bytes) -> None:
        """Tell whoever waits."""
        self.process = None
        self.body = b""
        self.let_go()
        done, self.done = self.done, None
        if done is not None:
            done(answer.code, answer.problem, answer.asked, made)


class Transcoder:
    """The processes of one loop. ``memory_bytes_max`` bounds each of them (0: as usual)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        memory_bytes_max: int = 0,
        budget: Budget | None = None,
    ) -> None:
        self.loop = loop
        self.budget = budget or process_budget()
        wanted = memory_bytes_max or MEMORY_BYTES
        self.memory_bytes = max(MEMORY_BYTES_LEAST, min(wanted, MEMORY_BYTES))
        # Of the jobs that no process has taken yet.
        self.bytes_waiting = 0
        self.jobs = 0
        # How often a process has had a job whole, and begun it.
        self.begun = 0
        self._waiting: deque[Job] = deque()
        self._processes: list[_Process | None] = [None] * len(LARGEST)
        self._reaping: set[asyncio.Task[None]] = set()
        self._closed = False

    def make(self, to: For, method: int, timeout_ms: int, body: bytes, done: Done) -> Job | None:
        """Make a request of what came by a mesh method. ``done(code, problem, asked, frame)`` is
        called once. None when there is too much to do."""
        return self._submit(Head(make=(to, method, timeout_ms)), body, done)

    def read(self, asked: bytes, serialization: int, body: Body, done: Done) -> Job | None:
        """Read a reply for who asked so; ``done(code, problem, b"", answer)`` as above."""
        return self._submit(Head(read=(asked, serialization)), body, done)

    def _submit(self, head: Head, body: Body, done: Done) -> Job | None:
        if (
            self._closed
            or len(self._waiting) >= JOBS_MAX
            or (self._waiting and self.bytes_waiting + len(body) > BYTES_MAX)
            or not self.budget.hold(len(body))
        ):
            return None
        job = Job(self, head, body, done)
        self._waiting.append(job)
        self.bytes_waiting += job.size
        self.jobs += 1
        self.look()
        return job

    def look(self) -> None:
        """Give what waits to processes that are free."""
        for place, largest in enumerate(LARGEST):
            process = self._processes[place]
            if process is not None and process.job is not None:
                continue
            job = self._next(largest)
            if job is None:
                continue
            if process is None:
                process = self._processes[place] = _Process(self, place)
            process.take(job)

    def _next(self, largest: int | None) -> Job | None:
        for job in self._waiting:
            if largest is None or job.size <= largest:
                self._forget(job)
                return job
        return None

    def begin_again(self, job: Job) -> None:
        """The process of a job has ended before it began it."""
        job.again = True
        job.process = None
        if job.done is None or self._closed:
            job.end(Answer(Code.UNAVAILABLE, CLOSING), b"")
            return
        self._waiting.appendleft(job)
        self.bytes_waiting += job.size
        self.look()

    def _forget(self, job: Job) -> None:
        self._waiting.remove(job)
        self.bytes_waiting -= job.size

    def dropped(self, job: Job) -> None:
        """Nobody waits for a job."""
        if job.process is not None:
            self.loop.call_later(DROPPED_S, job.process.give_up, job)
        elif job in self._waiting:
            self._forget(job)
            job.let_go()

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [each.pid for each in self._processes if each is not None and each.pid]

    def ended(self, place: int) -> None:
        """A process is gone, or has said that it goes."""
        self._processes[place] = None

    async def close(self) -> None:
        """End the processes; jobs under way fail."""
        self._closed = True
        waiting, self._waiting = self._waiting, deque()
        self.bytes_waiting = 0
        for process in list(self._processes):
            if process is not None:
                process.end(Code.UNAVAILABLE, CLOSING)
        for job in waiting:
            job.end(Answer(Code.UNAVAILABLE, CLOSING), b"")
        await asyncio.gather(*self._reaping)

    def reap(self, process: subprocess.Popen[bytes]) -> None:
        """Take note of the end of a process that is told to end."""
        reaping = self.loop.create_task(_reaped(process))
        self._reaping.add(reaping)
        reaping.add_done_callback(self._reaping.discard)


class _Process(asyncio.BufferedProtocol):
    """One process: the protocol of its socket."""

    def __init__(self, owner: Transcoder, place: int) -> None:
        self.job: Job | None = None
        self._owner = owner
        self._place = place
        self._loop = owner.loop
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._ended = False
        # What is arriving: lengths, or an answer's head, or its body.
        self._room = Room(LENGTHS.size)
        self._arrives: Callable[[bytes], None] = self._lengths
        self._body_length = 0
        self._answer = NOTHING
        self._starting = self._loop.create_task(self._start())

    @property
    def pid(self) -> int:
        """Its number, 0 when it has not begun."""
        return self._process.pid if self._process is not None else 0

    # jobs

    def take(self, job: Job) -> None:
        """Do a job; there is none now."""
        self.job = job
        job.process = self
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._transport is not None:
            self._send(job)

    def _send(self, job: Job) -> None:
        assert self._transport is not None
        head = _encode(job.head)
        self._transport.write(LENGTHS.pack(len(head), len(job.body)) + head)
        self._transport.write(job.body)

    def give_up(self, job: Job) -> None:
        """Nobody has waited for the job for long: end the process if it is still at it."""
        if self.job is job:
            self.end(Code.CANCELLED, "its caller has left")

    # the process

    async def _start(self) -> None:
        if self._ended:
            return
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = self._launch(theirs.fileno())
            ours.setblocking(False)
            await self._loop.create_connection(lambda: self, sock=ours)
        except (OSError, ValueError) as error:
            ours.close()
            self._do_without(error)

    def _launch(self, fd: int) -> subprocess.Popen[bytes]:
        """Start the process. That is a vfork: it takes the loop a few milliseconds."""
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", START),
                *(str(fd), str(self._owner.memory_bytes), PARENT),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(fd,),
        )

    def _do_without(self, error: Exception) -> None:
        """No process can be started here: do the job as small ones are done."""
        log.error("large calls hold up others, for no process can be started: %s", error)
        job, self.job = self.job, None
        self.end(0, "")
        if job is not None:
            job.end(*Works().do(job.head, bytes(job.body)))
            self._owner.look()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop: the socket is ready."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        if self._ended:
            transport.close()
        elif self.job is not None:
            self._send(self.job)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The loop: where what comes is to be read to."""
        return self._room.rest()

    def buffer_updated(self, n: int) -> None:
        """The loop: so much has been read there."""
        if self._room.fill(n):
            self._arrives(self._room.take())

    def _expect(self, length: int, arrives: Callable[[bytes], None]) -> None:
        self._room = Room(length)
        self._arrives = arrives

    def _lengths(self, data: bytes) -> None:
        head_length, self._body_length = LENGTHS.unpack(data)
        job = self.job
        if head_length == 0:
            # The job has arrived, and is begun.
            self._owner.begun += 1
            if job is not None:
                job.body = b""
            self._expect(LENGTHS.size, self._lengths)
        elif job is not None and not job.hold(self._body_length):
            self.end(
                Code.OVERLOAD,
                f"no memory is left here for a large call of {self._body_length} bytes",
            )
        else:
            self._expect(head_length, self._head)

    def _head(self, data: bytes) -> None:
        self._answer = _read_answer(data)
        if self._body_length:
            self._expect(self._body_length, self._answered)
        else:
            self._answered(b"")

    def _answered(self, made: bytes) -> None:
        """A whole answer has come."""
        answer, self._answer = self._answer, NOTHING
        self._expect(LENGTHS.size, self._lengths)
        job, self.job = self.job, None
        if answer.last:
            self.end(0, "")
        else:
            self._idle = self._loop.call_later(IDLE_S, self.end, 0, "")
        # First of all, for what follows may take a while.
        self._owner.look()
        if job is not None:
            job.end(answer, made)

    def connection_lost(self, error: Exception | None) -> None:
        """The loop: the process has ended. Mostly it is memory that has run out."""
        job = self.job
        if job is None or not job.body:
            self.end(Code.TOO_LARGE, KILLED)
        elif job.again:
            self.end(Code.INTERNAL, NOT_BEGUN)
        else:
            # Perhaps it was idle, and is ended just as it is given something.
            self.job = None
            self.end(0, "")
            self._owner.begin_again(job)

    def end(self, code: int, why: str) -> None:
        """End the process; a job under way fails for this reason."""
        if self._ended:
            return
        self._ended = True
        self._owner.ended(self._place)
        job, self.job = self.job, None
        if self._idle is not None:
            self._idle.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None:
            if job is not None:
                self._process.kill()
            self._owner.reap(self._process)
        if job is not None:
            job.end(Answer(code, why), b"")
            self._owner.look()


async def _reaped(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that finds its socket closed, but not for long."""
    patience = int(PATIENCE_S / REAP_S)
    while process.poll() is None:
        await asyncio.sleep(REAP_S)
        patience -= 1
        if patience == 0:
            process.kill()


__all__ = ["Job", "Transcoder"]
