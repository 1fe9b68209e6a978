"""The arguments of calls, checked and brought into the form that the calls need.

Called by ``rpc.client_base`` and what is built on it, for what their fast paths do not take as it
is.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Iterable
from typing import Any

from dragoman.errors import UsageError
from dragoman.options import MS_MAX, shown

METHOD_BYTES_MAX = 1024
KEY_BYTES_MAX = 255


def method_name(method: Any) -> bytes:
    """A method's name as it travels; raises UsageError."""
    if type(method) is str:
        with contextlib.suppress(UnicodeEncodeError):
            name = method.encode()
            if 1 <= len(name) <= METHOD_BYTES_MAX:
                return name
    raise UsageError(
        f"method: expected a name of 1 to {METHOD_BYTES_MAX} bytes, not {shown(method)}"
    )


def body_bytes(body: Any, index: int | None = None) -> bytes:
    """A bytes-like body as bytes; raises UsageError."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    where = "body" if index is None else f"bodies[{index}]"
    raise UsageError(f"{where}: expected bytes, not {type(body).__name__}")


def order_key_bytes(key: Any) -> bytes:
    """An order key as it travels; raises UsageError."""
    if isinstance(key, str):
        raw = key.encode("utf-8", "surrogatepass")
    elif isinstance(key, bytes):
        raw = bytes(key)
    else:
        raise UsageError(f"order_key: expected bytes or str, not {type(key).__name__}")
    if not 1 <= len(raw) <= KEY_BYTES_MAX:
        raise UsageError(f"order_key: expected 1 to {KEY_BYTES_MAX} bytes, not {len(raw)}")
    return raw


def timeout_us(timeout_ms: Any) -> int:
    """A timeout in microseconds; raises UsageError."""
    if type(timeout_ms) not in (int, float) or not 1 <= timeout_ms <= MS_MAX:
        raise UsageError(f"timeout_ms: expected 1 to {MS_MAX}, not {shown(timeout_ms)}")
    return int(timeout_ms * 1000)


def listed(bodies: Any) -> list[Any]:
    """The bodies of a batch; raises UsageError for what has none."""
    if not _iterable(bodies):
        raise UsageError(f"bodies: expected bodies of calls, not {shown(bodies)}")
    return list(bodies)


def _iterable(bodies: Any) -> bool:
    return isinstance(bodies, Iterable) or hasattr(type(bodies), "__getitem__")


def check_callback(callback: Any) -> None:
    """Raise UsageError unless ``callback`` can be told how a call ended."""
    if not callable(callback):
        raise UsageError(f"callback: expected a function, not {shown(callback)}")


def check_map(bodies: Any, in_flight: Any, *, asynchronous: bool = True) -> None:
    """Raise UsageError unless ``map`` can take ``bodies``, with ``in_flight`` of them under way."""
    if not (_iterable(bodies) or (asynchronous and isinstance(bodies, AsyncIterable))):
        raise UsageError(f"bodies: expected bodies of calls, not {shown(bodies)}")
    if type(in_flight) is not int or in_flight < 1:
        raise UsageError(f"in_flight: expected a number from 1, not {shown(in_flight)}")
