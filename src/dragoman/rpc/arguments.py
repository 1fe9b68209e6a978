"""What callers pass to a call, checked and brought into the form that the calls need.

Called by ``rpc.client`` and ``cluster.pool`` for what their fast paths do not take as it is.
"""

from __future__ import annotations

import contextlib
from typing import Any

from dragoman.errors import UsageError

METHOD_BYTES_MAX = 1024
KEY_BYTES_MAX = 255
TIMEOUT_MS_MAX = 0xFFFFFFFE


def method_name(method: Any) -> bytes:
    """A method's name as it travels; raises UsageError."""
    if type(method) is str:
        with contextlib.suppress(UnicodeEncodeError):
            name = method.encode()
            if 1 <= len(name) <= METHOD_BYTES_MAX:
                return name
    raise UsageError(f"method: expected a name of 1 to {METHOD_BYTES_MAX} bytes, not {method!r}")


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
    if type(timeout_ms) not in (int, float) or not 1 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise UsageError(f"timeout_ms: expected 1 to {TIMEOUT_MS_MAX}, not {timeout_ms!r}")
    return int(timeout_ms * 1000)


def check_in_flight(in_flight: Any) -> None:
    """Raise UsageError unless ``in_flight`` can bound what ``map`` has under way."""
    if type(in_flight) is not int or in_flight < 1:
        raise UsageError(f"in_flight: expected a number from 1, not {in_flight!r}")
