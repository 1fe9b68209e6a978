"""Checks of the options of public functions, and the words for one that is out of range.

Called by ``rpc``, ``cluster``, ``dubbo`` and ``registry`` before anything opens. The invariant:
whatever an option is given as, it passes or is a UsageError of one line that names it and says what
was expected, never an error of Python's from somewhere below.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from dragoman.errors import UsageError

SHOWN_MAX: Final = 100
# What a time in milliseconds can say on the wire: some seven weeks.
MS_MAX: Final = 0xFFFFFFFE
TEXT_MAX: Final = 4096


def shown(value: Any) -> str:
    """A caller's value for a message: short, in one line, whatever its ``repr`` does."""
    try:
        text = " ".join(f"{value!r:.{SHOWN_MAX + 1}}".split())
    except Exception:
        # An int of many thousand digits, or an object that cannot say what it is.
        text = f"this {type(value).__name__}"
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number within bounds; raises UsageError."""
    if type(value) is not int or not least <= value <= most:
        raise UsageError(
            f"{name}: expected a whole number from {least} to {most}, not {shown(value)}"
        )
    return value


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number within bounds, whole or not; raises UsageError."""
    if type(value) not in (int, float) or not least <= value <= most:
        raise UsageError(f"{name}: expected a number from {least} to {most}, not {shown(value)}")
    result: float = value
    return result


def milliseconds(name: str, value: Any) -> float:
    """How long something may take, 0 for not at all; raises UsageError."""
    return number(name, value, 0, MS_MAX)


def flag(name: str, value: Any) -> bool:
    """True or False; raises UsageError."""
    if type(value) is not bool:
        raise UsageError(f"{name}: expected True or False, not {shown(value)}")
    return value


def text(name: str, value: Any, *, most: int = TEXT_MAX, empty: bool = True) -> str:
    """Text that can be written; raises UsageError."""
    if not isinstance(value, str):
        raise UsageError(f"{name}: expected text, not {shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{name}: expected text, and {shown(value)} is none") from None
    if not (value or empty) or len(value) > most or "\0" in value:
        least = 0 if empty else 1
        raise UsageError(f"{name}: expected {least} to {most} characters, not {shown(value)}")
    return value


def choice(name: str, value: Any, among: tuple[str, ...]) -> str:
    """One of a few words; raises UsageError."""
    if not isinstance(value, str) or value not in among:
        raise UsageError(f"{name}: expected one of {', '.join(among)}, not {shown(value)}")
    return value


def tls_context(name: str, value: Any) -> ssl.SSLContext | None:
    """How TLS is spoken, or None; raises UsageError."""
    if value is not None and not isinstance(value, ssl.SSLContext):
        raise UsageError(f"{name}: expected an ssl.SSLContext, not {type(value).__name__}")
    return value
