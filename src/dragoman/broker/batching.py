"""``PutBatches``: what is put to a served store, gathered into requests of some size.

``client.ServedStore`` has one, which gives its batches to ``delivery``. The invariant: messages
leave in the order in which they were put.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from dragoman.broker import messages as wire
from dragoman.broker.delivery import Batch, Delivery
from dragoman.broker.session import Session, reply_of
from dragoman.errors import DragomanError

# What one request puts at most, so that replies come while more is on its way.
BATCH_MESSAGES = 10_000
BATCH_BYTES = 4 << 20


class PutBatches:
    """The requests of a session that change queues, but for those that may be sent twice."""

    def __init__(self, session: Session, bytes_max: int) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._bytes_max = bytes_max
        self._delivery = Delivery(self._loop, session._ready, session._forget, bytes_max)
        self._gathered: list[tuple[bytes, bytes, asyncio.Future[int]]] = []

    def put(self, queue: bytes, message: bytes) -> asyncio.Future[int]:
        """The offset that the message gets; what is put in one tick of the loop goes together."""
        future: asyncio.Future[int] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self.flush)
        self._gathered.append((queue, message, future))
        return future

    def flush(self) -> None:
        """Send what has been gathered now."""
        gathered, self._gathered = self._gathered, []
        at = 0
        while at < len(gathered):
            size, end = 0, at
            while end < len(gathered) and end - at < BATCH_MESSAGES and size < BATCH_BYTES:
                size += len(gathered[end][0]) + len(gathered[end][1])
                end += 1
            batch = gathered[at:end]
            at = end
            futures = [future for _, _, future in batch]
            queues = [queue for queue, _, _ in batch]
            try:
                sent = self._send_put(queues, [message for _, message, _ in batch], size)
            except DragomanError as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
                continue
            sent.add_done_callback(partial(_share, futures))

    async def put_many(self, names: bytes | list[bytes], bodies: list[bytes]) -> list[int]:
        """The offsets that the messages get; no more are under way than half of ``bytes_max``."""
        if self._gathered:
            self.flush()
        sent: list[asyncio.Future[bytes]] = []
        at = 0
        while at < len(bodies):
            size, end = _portion(names, bodies, at)
            while self._delivery.bytes > self._bytes_max // 2:
                under_way = [future for future in sent if not future.done()]
                if not under_way:
                    break  # it is others' that waits, and the delivery says if it is too much
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            if any(future.done() and future.exception() for future in sent):
                break
            part = names if isinstance(names, bytes) else names[at:end]
            sent.append(self._send_put(part, bodies[at:end], size))
            at = end
        offsets: list[int] = []
        for reply in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(reply, BaseException):
                raise wire.from_wire(reply) if isinstance(reply, DragomanError) else reply
            part_offsets = reply_of(wire.OFFSETS, reply)
            offsets += part_offsets
        return offsets

    def delete(self, name: bytes) -> asyncio.Future[bytes]:
        """The reply to ``queue.delete``."""
        producer = self._session._producer
        return self._send(
            "queue.delete",
            lambda process, sequence, ended, after, again: wire.Delete(
                process, producer, sequence, ended, after, again, name
            ),
            len(name),
        )

    def _send(
        self, method: str, make: Callable[[bytes, int, int, int, bool], wire.Asking], size: int
    ) -> asyncio.Future[bytes]:
        session = self._session

        async def send(
            process: bytes, sequence: int, ended: int, after: int, again: bool, timeout_ms: float
        ) -> bytes:
            body = wire.encode(make(process, sequence, ended, after, again))
            return await session._caller.call(method, body, timeout_ms=timeout_ms)

        session._check_open()
        deadline_s = self._loop.time() + session._timeout_ms / 1000
        return self._delivery.add(Batch(send, size, deadline_s, self._loop.create_future()))

    def _send_put(
        self, queues: bytes | list[bytes], messages: list[bytes], size: int
    ) -> asyncio.Future[bytes]:
        producer = self._session._producer
        return self._send(
            "queue.put",
            lambda process, sequence, ended, after, again: wire.Put(
                process, producer, sequence, ended, after, again, queues, messages
            ),
            size,
        )

    async def drain(self) -> None:
        """Wait until all that was put has ended."""
        await self._delivery.drain()


def _portion(names: bytes | list[bytes], bodies: list[bytes], at: int) -> tuple[int, int]:
    """What goes into the next request: its size, and where it ends."""
    if len(bodies) - at <= BATCH_MESSAGES:
        size = sum(map(len, bodies[at:] if at else bodies))
        if isinstance(names, list):
            size += sum(map(len, names[at:] if at else names))
        if size <= BATCH_BYTES:
            return size, len(bodies)
    size, end = 0, at
    while end < len(bodies) and end - at < BATCH_MESSAGES and size < BATCH_BYTES:
        size += len(bodies[end]) + (len(names[end]) if isinstance(names, list) else 0)
        end += 1
    return size, end


def _share(futures: list[asyncio.Future[int]], done: asyncio.Future[bytes]) -> None:
    """The offsets of a batch, or its error, to those who put."""
    error: BaseException | None = asyncio.CancelledError() if done.cancelled() else done.exception()
    offsets: list[int] = []
    if error is None:
        try:
            offsets = reply_of(wire.OFFSETS, done.result())
        except DragomanError as wrong:
            error = wrong
    if error is None and len(offsets) == len(futures):
        for future, offset in zip(futures, offsets, strict=True):
            if not future.done():
                future.set_result(offset)
        return
    if isinstance(error, DragomanError):
        error = wire.from_wire(error)
    for future in futures:
        if not future.done():
            future.set_exception(error or DragomanError("the server's reply is none"))
