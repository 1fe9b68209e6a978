"""What a store may be opened with: each option's bounds, and what is said of one beyond them.

``QueueStore`` calls these before it touches the disk. The invariant: whatever an option is given
as, it passes or is a UsageError that names it.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from dragoman.errors import UsageError

PIB = 1 << 50
# Name, least, most.
WHOLE = (
    ("memory_bytes", 1 << 20, PIB),
    ("cache_bytes", 0, PIB),
    ("journal_bytes", 1 << 20, PIB),
    ("expected_queues", 0, 1 << 28),
    ("compaction_bytes_s", 4096, PIB),
    ("compaction_memory_bytes", 65536, PIB),
)
ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}")
URL = re.compile(r"(unix:|[a-z][a-z0-9+]*://)")
LIMITS = ("retention_s", "retention_bytes", "retention_messages")
WHOLE_LIMITS = ("retention_bytes", "retention_messages")


def durability_of(setting: Any) -> tuple[int, int]:
    """``none``, ``interval(100)`` (milliseconds) or ``always``, as the engine takes it."""
    if setting == "none":
        return 0, 0
    if setting == "always":
        return 2, 0
    if setting == "interval":
        return 1, 100
    if isinstance(setting, str) and setting.isascii():
        text = setting.removeprefix("interval")
        number = text.strip("()")
        if text == f"({number})" and number.isdecimal() and 1 <= int(number[:9]) <= 60000:
            return 1, int(number[:9])
    raise UsageError(
        f"durability is none, always, interval or interval(1 to 60000 ms), not {setting!r:.100}"
    )


def path_of(path: Any) -> Path:
    """Where a store is; raises UsageError for what is no path."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise UsageError(
            f"the path of a queue store is str, bytes or a Path, not {type(path).__name__}"
        ) from None
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise UsageError(f"no path of a queue store: {text!r:.100}") from None
    if not text or "\0" in text:
        raise UsageError(f"no path of a queue store: {text!r:.100}")
    if isinstance(path, str) and not os.path.exists(path):
        check_no_address(path)
    return Path(text)


def check_no_address(path: str) -> None:
    """Raise UsageError for the address of a store that is elsewhere, where there is no such path: a
    directory of that name is meant by nobody."""
    if ADDRESS.fullmatch(path):
        raise UsageError(
            f"{path!r} looks like an address, and there is no such path: dragoman://{path} is a"
            f" served store, ./{path} a directory"
        )
    if URL.match(path):
        raise UsageError(
            f"{path!r:.100} looks like a URL, and there is no such path: broker.open_store opens a"
            f" store that is elsewhere, ./{path:.100} is a directory"
        )


def checked(**options: Any) -> None:
    """Raise UsageError for an option that is beyond its bounds."""
    segment_bytes = options["segment_bytes"]
    if (
        type(segment_bytes) is not int
        or segment_bytes & (segment_bytes - 1)
        or not 1 << 16 <= segment_bytes <= 1 << 30
    ):
        raise UsageError(
            f"segment_bytes is a power of two from 64 KiB to 1 GiB, not {segment_bytes!r:.100}"
        )
    for name, least, most in WHOLE:
        value = options[name]
        if type(value) is not int or value < least:
            raise UsageError(f"{name} is a whole number of at least {least}, not {value!r:.100}")
        if value > most:
            raise UsageError(f"{name} is at most {most}, not {value!r:.100}")
    for name in LIMITS:
        limit = options[name]
        if limit is None:
            continue
        number = type(limit) is int or (type(limit) is float and name not in WHOLE_LIMITS)
        if not number or math.isnan(limit) or not limit > 0:
            raise UsageError(f"{name} is more than 0, not {limit!r:.100}")
    below = options["compact_below"]
    if below is not None and not (type(below) in (int, float) and 0 < below <= 0.9):
        raise UsageError(f"compact_below is more than 0 and at most 0.9, not {below!r:.100}")
