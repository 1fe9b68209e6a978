"""What callers may give a store: names, messages, offsets; the same for all stores.

The engine checks puts and gets itself, in C and in the same words; these are for stores that are
elsewhere (``dragoman.broker``) and for what the engine leaves to Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from dragoman.errors import UsageError

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
NAME_BYTES_MAX = 65_536
GROUP_BYTES_MAX = 1024
# What names begin with that stand for no group, but keep what one that shares work needs.
WORK = b"\0dragoman.workers\0"
# What an offset may be: the format has 48 bits for it.
OFFSET_MAX = (1 << 48) - 1
# Ten years: what is longer is without end to all who wait.
WAIT_MS_MAX = 3.2e11


def queue_bytes(queue: Any) -> bytes:
    """A queue's name as bytes; raises UsageError."""
    if isinstance(queue, str):
        try:
            name = queue.encode()
        except UnicodeEncodeError:
            raise UsageError("a queue's name has a lone surrogate, which is not text") from None
    elif isinstance(queue, bytes):
        name = queue
    else:
        raise UsageError(f"a queue's name is str or bytes, not {type(queue).__name__}")
    if not 1 <= len(name) <= NAME_BYTES_MAX:
        raise UsageError(f"a queue's name has 1 to 65536 bytes, not {len(name)}")
    return name


def group_bytes(group: Any) -> bytes:
    """A group's name as bytes; raises UsageError."""
    if not isinstance(group, str | bytes):
        raise UsageError(f"a group's name is str or bytes, not {type(group).__name__}")
    name = group.encode("utf-8", "surrogatepass") if isinstance(group, str) else bytes(group)
    if not 1 <= len(name) <= GROUP_BYTES_MAX:
        raise UsageError(f"a group's name has 1 to 1024 bytes, not {len(name)}")
    if name.startswith(WORK):
        raise UsageError(f"names of groups that begin with {WORK!r} are the store's own")
    return name


def message_bytes(message: Any) -> bytes:
    """A message as bytes; raises UsageError."""
    if not isinstance(message, bytes):
        if not isinstance(message, bytearray | memoryview):
            raise UsageError(f"a message is bytes, not {type(message).__name__}")
        message = bytes(message)
    if len(message) > MESSAGE_BYTES_MAX:
        raise UsageError(f"a message has at most 16777216 bytes, not {len(message)}")
    return bytes(message)


def range_of(request: Any) -> tuple[bytes, int, int]:
    """A (queue, offset, count) to read; raises UsageError."""
    try:
        queue, offset, count = request
    except (TypeError, ValueError):
        queue = offset = count = None
    if not (_whole(offset) and _whole(count)):
        raise UsageError(
            f"a request is (queue, offset, count) with whole numbers, not {request!r:.100}"
        )
    if offset < 0 or count < 0:
        raise UsageError(f"offset {offset} and count {count} must not be negative")
    return queue_bytes(queue), offset, count


def wait_ms_of(timeout_ms: Any, name: str = "timeout_ms") -> float | None:
    """How long to wait, None: without end; raises UsageError."""
    if timeout_ms is None:
        return None
    if not isinstance(timeout_ms, int | float) or math.isnan(timeout_ms):
        raise UsageError(f"{name} is a number of milliseconds, not {timeout_ms!r:.100}")
    return min(max(0.0, timeout_ms), WAIT_MS_MAX)


def listed(values: Any, what: str) -> list[Any]:
    """The values as a list; raises UsageError, which says ``what`` was expected."""
    if isinstance(values, list):
        return values
    try:
        every = iter(values)
    except TypeError:
        raise UsageError(f"{what}, not {type(values).__name__}") from None
    return list(every)


def position_of(position: Any, length: int) -> int:
    """A position to commit in a queue of ``length``; raises UsageError."""
    if not _whole(position) or not 0 <= position <= length:
        raise UsageError(f"a position is 0 to {length}, not {position!r:.100}")
    return int(position)


def before_of(before: Any) -> int:
    """Before which offset to trim; raises UsageError."""
    if not _whole(before) or before < 0:
        raise UsageError(f"messages are trimmed before an offset, not {before!r:.100}")
    return min(int(before), OFFSET_MAX)


def puts_of(queues: Any, messages: Any) -> tuple[bytes | list[bytes], list[bytes]]:
    """What ``put_many`` was given, as one queue or queues beside messages; raises UsageError.

    Lists may be those that were given: they are to be left as they are.
    """
    if messages is None:
        names: list[bytes] = []
        bodies: list[bytes] = []
        for number, pair in enumerate(_iterable(queues)):
            try:
                queue, message = pair
            except (TypeError, ValueError):
                raise UsageError(
                    f"put_many takes pairs of queue and message; number {number} is none"
                ) from None
            names.append(queue_bytes(queue))
            bodies.append(message_bytes(message))
        return names, bodies
    if not _all_bytes(messages, 0, MESSAGE_BYTES_MAX):
        messages = [message_bytes(message) for message in _iterable(messages)]
    bodies = messages
    if isinstance(queues, str | bytes):
        return queue_bytes(queues), bodies
    if not _all_bytes(queues, 1, NAME_BYTES_MAX):
        queues = [queue_bytes(queue) for queue in _iterable(queues)]
    names = queues
    if len(names) != len(bodies):
        raise UsageError(f"{len(names)} queues beside {len(bodies)} messages")
    return names, bodies


def _all_bytes(values: Any, least: int, most: int) -> bool:
    """Whether it is a list of bytes of a length that may be; told without a loop of Python's."""
    if type(values) is not list or set(map(type, values)) != {bytes}:
        return False
    lengths = list(map(len, values))
    return min(lengths) >= least and max(lengths) <= most


def _whole(number: Any) -> bool:
    return isinstance(number, int) and number < 1 << 63


def _iterable(value: Any) -> Iterable[Any]:
    if isinstance(value, str | bytes | bytearray) or not hasattr(value, "__iter__"):
        raise UsageError(f"put_many takes lists, not {type(value).__name__}")
    every: Iterable[Any] = value
    return every
