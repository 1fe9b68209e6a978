"""What a server remembers of producers, so that a request that comes twice is done once.

``server`` asks ``Producers.begin`` before it does anything that changes queues. Invariants: of the
requests with one producer and number at most one is done in the life of the process, unless the
first was refused as ``retry_safe``; what is remembered is bounded by number and by bytes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from dragoman.broker.messages import (
    OUT_OF_ORDER,
    OUTCOME_UNKNOWN,
    PRODUCERS_MAX,
    REMEMBERED,
    REMEMBERED_BYTES,
)
from dragoman.errors import DragomanError, RemoteError, UsageError

PRODUCER_BYTES = 16


class Outcome:
    """A request that is being done, or what came of it; those who wait for the reply."""

    __slots__ = ("_error", "_reply", "_waiting", "owner", "sequence")

    def __init__(self, owner: _Producer, sequence: int) -> None:
        self.owner = owner
        self.sequence = sequence
        self._reply: bytes | None = None
        self._error: DragomanError | None = None
        self._waiting: list[asyncio.Future[bytes]] = []

    @property
    def size(self) -> int:
        """Bytes of the reply that is remembered."""
        return 0 if self._reply is None else len(self._reply)

    def reply_to(self, future: asyncio.Future[bytes]) -> asyncio.Future[bytes]:
        """``future`` ends as the request does. Cancelling it cancels nothing."""
        if self._reply is not None:
            future.set_result(self._reply)
        elif self._error is not None:
            future.set_exception(self._error)
        else:
            self._waiting.append(future)
        return future

    def done(self, reply: bytes) -> None:
        """The request has been done."""
        self._reply = reply
        self.owner.remember(len(reply))
        for future in self._waiting:
            if not future.done():
                future.set_result(reply)
        self._waiting.clear()

    def failed(self, error: DragomanError) -> None:
        """The request has failed; one that certainly was not done may come again."""
        self._error = error
        if error.retry_safe:
            self.owner.outcomes.pop(self.sequence, None)
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()


class _Producer:
    """A producer's outcomes by number, in the order in which they came."""

    __slots__ = ("_all", "bytes", "floor", "outcomes")

    def __init__(self, all_of_them: Producers) -> None:
        self._all = all_of_them
        self.outcomes: OrderedDict[int, Outcome] = OrderedDict()
        # Of numbers up to this nothing is known any more.
        self.floor = 0
        self.bytes = 0

    def remember(self, size: int) -> None:
        """A reply of so many bytes is remembered."""
        self.bytes += size
        self._all.bytes += size
        self._all.shrink()

    def forget(self, ended: int, most: int) -> None:
        """Outcomes before ``ended`` are not asked for again; at most ``most`` are remembered."""
        while self.outcomes:
            sequence = next(iter(self.outcomes))
            if sequence >= ended and len(self.outcomes) <= most:
                return
            size = self.outcomes.pop(sequence).size
            self.floor = max(self.floor, sequence)
            self.bytes -= size
            self._all.bytes -= size


class Producers:
    """All producers of a server, the one that has been silent longest first."""

    def __init__(
        self,
        producers_max: int = PRODUCERS_MAX,
        remembered: int = REMEMBERED,
        bytes_max: int = REMEMBERED_BYTES,
    ) -> None:
        self._known: OrderedDict[bytes, _Producer] = OrderedDict()
        self._producers_max = producers_max
        self._remembered = remembered
        self._bytes_max = bytes_max
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def know(self, producer: bytes) -> None:
        """A producer that begins, or has connected anew."""
        if len(producer) != PRODUCER_BYTES:
            raise UsageError(f"a producer is {PRODUCER_BYTES} bytes, not {len(producer)}")
        if producer in self._known:
            self._known.move_to_end(producer)
            return
        self._known[producer] = _Producer(self)
        self.shrink()

    def shrink(self) -> None:
        """Forget whom it takes to keep the bounds; not the last one that was heard."""
        while len(self._known) > self._producers_max or (
            self.bytes > self._bytes_max and len(self._known) > 1
        ):
            _, producer = self._known.popitem(last=False)
            producer.forget(1 << 63, 0)

    def begin(
        self, producer: bytes, sequence: int, ended: int, after: int, again: bool
    ) -> tuple[Outcome, bool]:
        """The outcome of a request, and whether it is new and to be done now. The producer has
        heard what became of all before ``ended``.

        Raises RemoteError with OUTCOME_UNKNOWN if it may have been done, with OUT_OF_ORDER if the
        one that it is to come ``after`` has not come, UsageError for a number that cannot be.
        """
        known = self._known.get(producer)
        if known is None:
            if again:
                raise RemoteError(
                    "it is not known whether the request was done: the server has forgotten"
                    " its producer",
                    code=OUTCOME_UNKNOWN,
                )
            self.know(producer)
            known = self._known[producer]
        else:
            self._known.move_to_end(producer)
        if not 1 <= ended <= sequence < 1 << 63:
            raise UsageError(f"requests are numbered from 1 on, not {sequence} after {ended}")
        # A request that its producer has given up, and that comes all the same, is not done.
        known.floor = max(known.floor, ended - 1)
        known.forget(ended, self._remembered)
        before = known.outcomes.get(sequence)
        if before is not None:
            return before, False
        if sequence <= known.floor:
            raise RemoteError(
                "it is not known whether the request was done: it is older than what the server"
                " remembers of its producer",
                code=OUTCOME_UNKNOWN,
            )
        if after and after not in known.outcomes:
            raise RemoteError(
                f"request {sequence} has come before request {after}",
                code=OUT_OF_ORDER,
                retry_safe=True,
            )
        outcome = known.outcomes[sequence] = Outcome(known, sequence)
        known.forget(ended, self._remembered)
        return outcome, True
