"""Answers of a provider double that are no plain values: refusals, delays and faults.

``DubboProvider.answer`` takes them, and whatever callable it is given may return them. A plain
value is a reply with that value, an exception a reply with a throwable. The invariant: an answer
holds nothing of a call, so that one may be given to many methods.

    from dragoman.testing import answers

    provider.answer("hash", answers.BUSY, answers.After(0.5, 7))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dragoman.errors import UsageError
from dragoman.options import number, shown, text, whole
from dragoman.wire.dubbo.frame import Serialization, Status

if TYPE_CHECKING:
    from dragoman.testing.received import ReceivedCall

__all__ = [
    "BUSY",
    "CLOSE",
    "RESET",
    "SILENCE",
    "TIMED_OUT",
    "After",
    "Answer",
    "Attached",
    "Body",
    "OfCall",
    "Raw",
    "Refused",
    "Status",
]

DELAY_S_MAX: Final = 86_400.0


class Answer:
    """The base of all answers that are more than a value."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={shown(value)}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


class After(Answer):
    """``answer`` (a value, an exception or another answer) after ``delay_s`` seconds.

    Raises UsageError for a delay that is none, or of more than a day.
    """

    def __init__(self, delay_s: float, answer: object = None) -> None:
        self.delay_s = number("delay_s", delay_s, 0, DELAY_S_MAX)
        self.answer = answer


class Refused(Answer):
    """A reply under a status other than 20 (OK), with a text: the method has returned nothing.

    ``status`` is a ``Status``, or any other number from 1 to 255. Raises UsageError.
    """

    def __init__(self, status: int, message: str = "") -> None:
        # An IntEnum's member is no int to ``whole``.
        self.status = whole("status", int(status) if isinstance(status, Status) else status, 1, 255)
        if self.status == Status.OK:
            raise UsageError("status: expected another than 20, which is a value's")
        self.message = text("message", message)


class Attached(Answer):
    """``answer`` (a value or an exception), with attachments that go back to callers that take
    them."""

    def __init__(self, answer: object, attachments: Mapping[str, str]) -> None:
        if not isinstance(attachments, Mapping):
            raise UsageError(f"attachments: expected a mapping, not {shown(attachments)}")
        for name, value in attachments.items():
            text("attachments", name)
            text(f"attachments[{shown(name)}]", value)
        self.answer = answer
        self.attachments = dict(attachments)


class Body(Answer):
    """A reply whose body is ``data`` as it is, right or wrong.

    ``serialization`` is the number that its frame names (None: that of the call).
    """

    def __init__(
        self, data: bytes, *, status: int = Status.OK, serialization: int | None = None
    ) -> None:
        self.data = _bytes(data)
        self.status = whole("status", int(status) if isinstance(status, Status) else status, 0, 255)
        if isinstance(serialization, Serialization):
            serialization = int(serialization)
        if serialization is not None:
            whole("serialization", serialization, 0, 31)
        self.serialization = serialization


class Raw(Answer):
    """Bytes as they are, right or wrong, in place of a frame."""

    def __init__(self, data: bytes) -> None:
        self.data = _bytes(data)


class OfCall(Answer):
    """What ``function`` makes of the whole call, a ``ReceivedCall``, as a callable makes an answer
    of its arguments."""

    def __init__(self, function: Callable[[ReceivedCall], object]) -> None:
        if not callable(function):
            raise UsageError(f"function: expected a callable, not {shown(function)}")
        self.function = function


class _Fault(Answer):
    """What happens to the connection; there is one of each."""

    def __init__(self, name: str, doc: str) -> None:
        self._name = name
        self.__doc__ = doc

    def __repr__(self) -> str:
        return f"answers.{self._name}"


SILENCE: Final = _Fault("SILENCE", "No reply, ever.")
RESET: Final = _Fault("RESET", "No reply: the connection breaks, as it does when a host dies.")
CLOSE: Final = _Fault("CLOSE", "No reply: the connection ends in order.")
# What a real provider says when its pool has no thread left, and when it was too slow.
BUSY: Final = Refused(Status.POOL_EXHAUSTED, "Thread pool is EXHAUSTED!")
TIMED_OUT: Final = Refused(Status.SERVER_TIMEOUT, "the provider did not answer in time")


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise UsageError(f"data: expected bytes, not {shown(data)}")
    return data
