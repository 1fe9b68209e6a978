"""The answering of one call by a provider double: from what a test said to the bytes of a reply.

``DubboProvider`` makes an ``Answering`` for each call. The invariant: a two-way call is answered
once, or as the test said not at all; what cannot be written is a reply that says so, and the
test's fault.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from dragoman.dubbo.server.results import generalized, throwable_of
from dragoman.dubbo.types.declaration import Method
from dragoman.dubbo.types.scalars import Misfit
from dragoman.errors import DragomanError, OverloadError, UsageError
from dragoman.options import shown
from dragoman.testing import answers
from dragoman.testing.dubbo_connection import ProviderConnection
from dragoman.testing.received import Received
from dragoman.wire.dubbo.frame import DubboFrame, Status, encode_frame
from dragoman.wire.dubbo.invocation import encode_reply


class Answering:
    """One call that is being answered."""

    def __init__(
        self,
        connection: ProviderConnection,
        frame: DubboFrame,
        received: Received,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self.call = received.call
        self._connection = connection
        self._frame = frame
        self._received = received
        self._on_fault = on_fault
        self._attachments: dict[str, str] | None = None

    async def run(self, answer: object) -> None:
        """Do what ``answer`` says, until something is written."""
        try:
            while True:
                if isinstance(answer, answers.After):
                    await asyncio.sleep(answer.delay_s)
                    answer = answer.answer
                elif isinstance(answer, answers.Attached):
                    self._attachments = {**(self._attachments or {}), **answer.attachments}
                    answer = answer.answer
                elif isinstance(answer, answers.OfCall):
                    answer = await _result(answer.function, (self.call,))
                elif callable(answer):
                    answer = await _result(answer, self.call.arguments)
                else:
                    break
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The callable's own word.
            answer = error
        except Exception as error:
            answer = error
        if isinstance(answer, AssertionError):
            self._on_fault(answer)
        self._write(answer)

    def refuse(self, status: int, message: str) -> None:
        """Answer with a status other than 20, if there is to be an answer."""
        if self._frame.two_way:
            self._connection.refuse(self._frame, status, message)

    def _write(self, answer: object) -> None:
        connection, frame = self._connection, self._frame
        if answer is answers.RESET:
            connection.transport.abort()
        elif answer is answers.CLOSE:
            connection.transport.close()
        elif isinstance(answer, answers.Raw):
            connection.write(answer.data)
        elif answer is answers.SILENCE or not frame.two_way:
            return
        elif isinstance(answer, answers.Refused):
            self.refuse(answer.status, answer.message)
        elif isinstance(answer, answers.Body):
            named = answer.serialization
            connection.write(
                encode_frame(
                    frame.id,
                    answer.data,
                    serialization=frame.serialization if named is None else named,
                    status=answer.status,
                )
            )
        elif isinstance(answer, OverloadError) and answer.retry_safe:
            # As the SDK's server has it: nothing has been done.
            self.refuse(Status.POOL_EXHAUSTED, str(answer))
        else:
            self._reply(answer)

    def _reply(self, answer: object) -> None:
        """A reply with a value or a throwable."""
        generic = self.call.generic
        attachments = self._attachments if self._received.takes_attachments else None
        try:
            if isinstance(answer, BaseException):
                body = encode_reply(
                    exception=throwable_of(answer, generic),
                    attachments=attachments,
                    serialization=self._frame.serialization,
                )
            else:
                value, kind = encoded(answer, self._received.method, generic)
                body = encode_reply(
                    value,
                    attachments=attachments,
                    serialization=self._frame.serialization,
                    type=kind,
                )
        except (DragomanError, Misfit, TypeError, ValueError) as error:
            wrong = UsageError(f"{self.call.method}: {shown(answer)} cannot be written: {error}")
            self._on_fault(wrong)
            self.refuse(Status.BAD_RESPONSE, str(wrong))
            return
        self._connection.write(
            encode_frame(
                self._frame.id, body, serialization=self._frame.serialization, status=Status.OK
            )
        )


async def _result(function: Callable[..., object], arguments: tuple[Any, ...]) -> object:
    made = function(*arguments)
    return await made if inspect.isawaitable(made) else made


def encoded(value: Any, method: Method | None, generic: bool) -> tuple[Any, str | None]:
    """A result as it travels, and the descriptor that it is written as."""
    if method is None:
        return generalized(value) if generic else value, None
    result = method.result
    if result.descriptor == "V":
        return None, None
    encode = result.encode_inner if generic else result.encode
    if encode is not None:
        value = encode(value)
    return (generalized(value), None) if generic else (value, result.descriptor)


def check_value(method: str, value: Any, declared: list[Method]) -> None:
    """Raise UsageError for a value that can be written as the result of no method of the name."""
    wrong = None
    for each in declared or (None,):
        try:
            made, kind = encoded(value, each, False)
            encode_reply(made, type=kind)
        except (DragomanError, Misfit, TypeError, ValueError) as error:
            wrong = error
        else:
            return
    raise UsageError(f"{method}: {shown(value)} cannot be written: {wrong}")
