"""How work is shared: a group's settings, and what its workers may ask for.

Stores that are elsewhere (``dragoman.broker``) check with it, too. The invariant: whatever an
option or an argument is given as, it passes or is a UsageError that names it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from dragoman.errors import UsageError
from dragoman.queue.api.arguments import queue_bytes
from dragoman.queue.api.interface import KeyOf
from dragoman.queue.work.leases import Message

LEASE_MS = 30_000
LEASE_MS_MAX = 24 * 3600 * 1000
ATTEMPTS_MAX = 200
WINDOW, WINDOW_MAX = 65_536, 1 << 20
TAKE_MAX = 100_000
# What one ``take`` gives at most, but for one message that is larger.
TAKE_BYTES = 16 << 20


@dataclass(frozen=True)
class WorkSettings:
    """How a group works on a queue. ``ordered_by``: see ``QueueStore.workers``."""

    lease_ms: int = LEASE_MS
    attempts_max: int | None = None
    dead_letter: bytes | None = None
    ordered_by: KeyOf | None = None
    window: int = WINDOW

    @property
    def shared(self) -> tuple[Any, ...]:
        """What all workers of a group have to agree on."""
        key = self.ordered_by
        return self.attempts_max, self.dead_letter, getattr(key, "__code__", key), self.window


def settings_of(
    queue: bytes,
    *,
    lease_ms: Any,
    attempts_max: Any,
    dead_letter: Any,
    ordered_by: Any,
    window: Any,
) -> WorkSettings:
    """The settings, checked; raises UsageError. The same for every store."""
    if type(lease_ms) is not int or not 1 <= lease_ms <= LEASE_MS_MAX:
        raise UsageError(f"lease_ms is a whole number from 1 to {LEASE_MS_MAX}, not {lease_ms!r}")
    if type(window) is not int or not 1 <= window <= WINDOW_MAX:
        raise UsageError(f"window is a whole number from 1 to {WINDOW_MAX}, not {window!r}")
    if attempts_max is not None and (
        type(attempts_max) is not int or not 1 <= attempts_max <= ATTEMPTS_MAX
    ):
        raise UsageError(f"attempts_max is 1 to {ATTEMPTS_MAX}, or None, not {attempts_max!r}")
    if (attempts_max is None) != (dead_letter is None):
        raise UsageError(
            "attempts_max and dead_letter go together: after so many attempts a message is put to"
            " that queue"
        )
    letters = None if dead_letter is None else queue_bytes(dead_letter)
    if letters == queue:
        raise UsageError("the dead letters of a queue are another queue")
    if isinstance(ordered_by, str):
        ordered_by = ordered_by.encode("utf-8", "surrogatepass")
    if not (
        ordered_by is None
        or (type(ordered_by) is int and 1 <= ordered_by <= 65536)
        or (isinstance(ordered_by, bytes) and 1 <= len(ordered_by) <= 1024)
        or callable(ordered_by)
    ):
        raise UsageError(
            "ordered_by is how many bytes of a message are its key (1 to 65536), what its key ends"
            f" with, or a function that tells it, not {ordered_by!r:.100}"
        )
    return WorkSettings(lease_ms, attempts_max, letters, ordered_by, window)


def keys_of(bodies: list[bytes], by: KeyOf) -> list[Hashable]:
    """The keys of messages; raises UsageError when the function does not tell one."""
    if isinstance(by, int):
        return [body[:by] for body in bodies]
    if isinstance(by, bytes):
        return [body.partition(by)[0] for body in bodies]
    keys: list[Hashable] = []
    for body in bodies:
        try:
            key = by(body)
            hash(key)
        except Exception as error:
            raise UsageError(f"ordered_by: {type(error).__name__}: {error}") from error
        keys.append(key)
    return keys


def count_of(count: Any) -> int:
    """How many messages to take; raises UsageError."""
    if type(count) is not int or not 1 <= count <= TAKE_MAX:
        raise UsageError(f"take gives 1 to {TAKE_MAX} messages at once, not {count!r:.100}")
    return count


def delay_of(delay_ms: Any) -> float:
    """Seconds of a delay; raises UsageError."""
    if not isinstance(delay_ms, int | float) or not 0 <= delay_ms <= LEASE_MS_MAX:
        raise UsageError(f"a delay is 0 to {LEASE_MS_MAX} ms, not {delay_ms!r:.100}")
    return delay_ms / 1000


def lease_of(lease_ms: Any, default: int) -> float:
    """Seconds of a lease; raises UsageError."""
    if lease_ms is None:
        return default / 1000
    if not isinstance(lease_ms, int | float) or not 1 <= lease_ms <= LEASE_MS_MAX:
        raise UsageError(f"a lease is 1 to {LEASE_MS_MAX} ms, not {lease_ms!r:.100}")
    return lease_ms / 1000


def messages_of(messages: Any) -> list[Message]:
    """What is settled: a message, or a list of them; raises UsageError."""
    if isinstance(messages, Message):
        return [messages]
    try:
        listed = messages if type(messages) is list else list(messages)
    except TypeError:
        listed = [messages]
    if not set(map(type, listed)) <= {Message}:
        raise UsageError("these are no messages that take gave")
    return listed


def timeout_of(wait_ms: Any) -> float:
    """Seconds to wait; raises UsageError."""
    if not isinstance(wait_ms, int | float) or not wait_ms >= 0:
        raise UsageError(f"wait_ms is 0 or more milliseconds, not {wait_ms!r:.100}")
    return wait_ms / 1000
