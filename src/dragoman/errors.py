"""Every error dragoman raises, in one tree divided by whose fault it is.

Each part of dragoman raises these and nothing else across its border; foreign exceptions are
translated where they enter. An error says whether the work may safely be tried again
(``retry_safe``: it certainly never ran), which code it travels under on the wire (``code``), and,
where one is known, the endpoint.

    DragomanError
    ├── UsageError                  the caller's misuse: bad option, argument or configuration
    ├── ProtocolError               the peer broke a protocol
    │   └── LimitError              ... by exceeding a stated limit
    ├── ResultError                 the callee's result cannot be said in the form asked for
    ├── LinkError                   the connection
    │   ├── ConnectError            could not be made (retry_safe)
    │   └── LinkLostError           broke; retry_safe only if the call was never sent
    ├── DeadlineError               the time allowed has passed
    ├── CancelledByCallerError      the caller withdrew the call
    ├── OverloadError               a bound was reached: queue full, no credit (retry_safe)
    │   └── UnavailableError        nobody serves this now: no endpoint (retry_safe)
    ├── NotFoundError               no such service or method (retry_safe)
    ├── RemoteError                 the callee ran and failed
    │   └── JavaError               ... with an exception of Java
    ├── BatchError                  some calls of a batch failed
    ├── RegistryError               the registry refused, or cannot be reached
    ├── PositionLostError           a position in a queue is no longer valid (retry_safe)
    ├── CorruptionError             stored bytes are not what was written
    └── StorageError                the disk refused: no space, I/O error, a failed sync
        └── LockedError             another process has the store or workspace (retry_safe)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

# Codes from here on are the callee's own (RemoteError).
OWN_CODES_FROM = 1000


class Code(IntEnum):
    """The numbers of errors on the wire (``docs/formats/mesh.md``, "Errors")."""

    MALFORMED = 1
    NOT_FOUND = 2
    OVERLOAD = 3
    UNAVAILABLE = 4
    DEADLINE = 5
    CANCELLED = 6
    REMOTE = 7
    UPSTREAM_PROTOCOL = 8
    UPSTREAM_LOST = 9
    TOO_LARGE = 10
    UNSUPPORTED = 11
    INTERNAL = 12
    BAD_RESULT = 13


# Added to a code on the wire: the callee itself has answered so, not somebody on the way to it.
# Such an answer concerns its call alone, and shows that the callee lives.
ANSWERED = 256


class DragomanError(Exception):
    """Base of the tree.

    ``retry_safe`` is true only when the work certainly never ran. ``endpoint`` is ``host:port`` or
    None.
    """

    code: int = Code.INTERNAL
    retry_safe: bool = False

    def __init__(
        self, message: str, *, endpoint: str | None = None, retry_safe: bool | None = None
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        if retry_safe is not None:
            self.retry_safe = retry_safe

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by ``__init__``, whose arguments a derived class chooses.
        return _made_again, (type(self), self.args), self.__dict__.copy()


def _made_again(kind: type[DragomanError], args: tuple[object, ...]) -> DragomanError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def marked(error: DragomanError, *, retry_safe: bool) -> DragomanError:
    """``error``, or one like it that says so of ``retry_safe``: one loss ends calls that were sent
    and calls that were not."""
    if error.retry_safe is retry_safe:
        return error
    other = _made_again(type(error), error.args)
    other.__dict__.update(error.__dict__)
    other.retry_safe = retry_safe
    return other


class UsageError(DragomanError):
    """The caller's misuse; the message names the place and what was expected."""

    code = Code.MALFORMED
    retry_safe = True


class ProtocolError(DragomanError):
    """The peer sent bytes that its protocol does not allow."""

    code = Code.UPSTREAM_PROTOCOL


class LimitError(ProtocolError):
    """The peer exceeded a stated limit of length, count or depth."""

    code = Code.TOO_LARGE


class ResultError(DragomanError):
    """The callee answered, and its result cannot be said in the form that was asked for.

    Nothing is wrong with the callee or the connection; the same call may have run well.
    """

    code = Code.BAD_RESULT


class LinkError(DragomanError):
    """The connection could not be made, or broke."""

    code = Code.UPSTREAM_LOST


class ConnectError(LinkError):
    """The connection could not be made: nothing was sent."""

    code = Code.UNAVAILABLE
    retry_safe = True


class LinkLostError(LinkError):
    """The connection broke with this call in flight; ``retry_safe`` tells whether it was sent."""


class DeadlineError(DragomanError):
    """The time allowed for the call has passed; it may or may not have run."""

    code = Code.DEADLINE


class CancelledByCallerError(DragomanError):
    """The caller withdrew the call."""

    code = Code.CANCELLED


class OverloadError(DragomanError):
    """A bound was reached and the call was refused before it ran.

    ``retry_after_s`` suggests when demand may match again.
    """

    code = Code.OVERLOAD
    retry_safe = True
    retry_after_s: float = 1.0


class UnavailableError(OverloadError):
    """Nobody serves this now: no endpoint is known or reachable, or its circuit is open."""

    code = Code.UNAVAILABLE


class NotFoundError(DragomanError):
    """The peer knows no such service or method."""

    code = Code.NOT_FOUND
    retry_safe = True


class RemoteError(DragomanError):
    """The callee ran and raised; the message is the callee's.

    ``code`` is the class's: ``Code.REMOTE``, or a number of the callee's own from 1000 to 65535.
    """

    code: int = Code.REMOTE

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        endpoint: str | None = None,
        retry_safe: bool | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, retry_safe=retry_safe)
        if code is None:
            code = type(self).code
        if code != Code.REMOTE and not OWN_CODES_FROM <= code <= 0xFFFF:
            raise ValueError(f"an error code of one's own is {OWN_CODES_FROM} to 65535, not {code}")
        self.code = code


class JavaError(RemoteError):
    """A Dubbo service threw, or is to throw, an exception of the Java class ``java_class``.

    ``fields`` are the throwable's other fields by their names, such as a code of its own; on the
    calling side ``cause`` and ``stackTrace`` are among them if the provider sent them.
    ``attachments`` are those of the reply. A derived class may set ``java_class`` for itself.
    """

    java_class: str = "java.lang.RuntimeException"

    def __init__(
        self,
        message: str = "",
        *,
        java_class: str | None = None,
        fields: Mapping[str, object] | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint)
        if java_class is not None:
            self.java_class = java_class
        self.fields: dict[str, object] = dict(fields or {})
        self.attachments: Mapping[str, str] = {}


class BatchError(DragomanError):
    """Some calls of a batch failed.

    ``errors`` maps the index of each that failed to its DragomanError; ``replies`` has the others'
    replies at their indices, and None at those. ``code`` is the first error's;
    ``retry_safe`` is true if all of them are.
    """

    def __init__(self, replies: list[bytes | None], errors: Mapping[int, DragomanError]) -> None:
        index = min(errors)
        first = errors[index]
        super().__init__(
            f"{len(errors)} of {len(replies)} calls failed, first number {index}: {first}",
            endpoint=first.endpoint,
            retry_safe=all(error.retry_safe for error in errors.values()),
        )
        self.code = first.code
        self.replies = replies
        self.errors = errors


class RegistryError(DragomanError):
    """The registry refused a request or cannot be reached."""

    code = Code.UNAVAILABLE


class PositionLostError(DragomanError):
    """A consumer's position is not one of this queue: the queue was deleted, and perhaps made anew,
    or its end was lost in a crash. Reading again begins where the consumer's group does."""

    code = Code.REMOTE
    retry_safe = True


class CorruptionError(DragomanError):
    """Stored bytes are not what was written; the message names file and offset."""

    code = Code.INTERNAL


class StorageError(DragomanError):
    """The disk refused; ``errno`` is the system's reason, if it gave one.

    What was to be stored is not acknowledged, but may turn out to be there.
    """

    code = Code.INTERNAL

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class LockedError(StorageError):
    """Another process has it open for writing."""

    code = Code.UNAVAILABLE
    retry_safe = True


_BY_CODE: dict[int, type[DragomanError]] = {
    Code.MALFORMED: UsageError,
    Code.NOT_FOUND: NotFoundError,
    Code.OVERLOAD: OverloadError,
    Code.UNAVAILABLE: UnavailableError,
    Code.DEADLINE: DeadlineError,
    Code.CANCELLED: CancelledByCallerError,
    Code.REMOTE: RemoteError,
    Code.UPSTREAM_PROTOCOL: ProtocolError,
    Code.UPSTREAM_LOST: LinkLostError,
    Code.TOO_LARGE: LimitError,
    Code.BAD_RESULT: ResultError,
}


def from_code(
    code: int, message: str, *, retry_safe: bool, endpoint: str | None = None
) -> DragomanError:
    """The error that ``code`` (see ``Code``) stands for; an unknown code is INTERNAL."""
    if code >= OWN_CODES_FROM:
        return RemoteError(message, code=code, endpoint=endpoint, retry_safe=retry_safe)
    kind = _BY_CODE.get(code, DragomanError)
    error = kind(message, endpoint=endpoint, retry_safe=retry_safe)
    error.code = Code(code) if code in Code._value2member_map_ else Code.INTERNAL
    return error


# As they were named before.
CancelledByCaller = CancelledByCallerError
LinkLost = LinkLostError
PositionLost = PositionLostError
