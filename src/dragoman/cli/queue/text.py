"""How ``dragoman queue`` shows names and messages, and reads them.

Names and messages are bytes. What is UTF-8 without control characters is shown as the text that it
is; anything else with backslashes, so that a line stays a line and a terminal is left alone. The
invariant: ``--json`` and ``--frames`` lose nothing.
"""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Literal

from dragoman.errors import StorageError, UsageError
from dragoman.queue.api.arguments import MESSAGE_BYTES_MAX

Form = Literal["text", "json", "raw", "frames"]

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
READ_BYTES = 1 << 16


def argument_bytes(argument: str) -> bytes:
    """The bytes that the shell gave."""
    return os.fsencode(argument)


def shown(data: bytes, most: int | None = None) -> str:
    """Bytes for people, on one line; of more than ``most`` characters the beginning."""
    cut = most is not None and len(data) > 4 * most
    text = data[: 4 * most if cut and most else None].decode("utf-8", "backslashreplace")
    text = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
    if most is not None and (cut or len(text) > most):
        text = text[: most - 3] + "..."
    return text


def fields_of(data: bytes, name: str) -> dict[str, str]:
    """``{name: text}``, or ``{name_base64: ...}`` for what is no UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def write(out: BinaryIO, form: Form, queue: bytes, offset: int, messages: list[bytes]) -> None:
    """Print messages, the first of which has ``offset``."""
    pieces: list[bytes] = []
    for number, message in enumerate(messages, offset):
        if form == "raw":
            pieces.append(message)
        elif form == "frames":
            pieces += (struct.pack("<I", len(message)), message)
        elif form == "json":
            line: dict[str, Any] = {**fields_of(queue, "queue"), "offset": number}
            line |= fields_of(message, "message")
            pieces.append(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        else:
            pieces.append(shown(message).encode("utf-8", "surrogatepass") + b"\n")
    out.write(b"".join(pieces))
    out.flush()


def batches(stream: BinaryIO, form: Literal["lines", "frames"]) -> Iterator[list[bytes]]:
    """Messages of ``stream`` as they come: what there is goes out together, nothing waits.

    Raises UsageError for a frame that is cut or too long, or a line that is too long.
    """
    rest = bytearray()
    descriptor = stream.fileno()
    while True:
        try:
            data = os.read(descriptor, READ_BYTES)
        except OSError as error:
            raise StorageError(f"standard input: {error.strerror}", errno=error.errno) from error
        rest += data
        messages = _lines(rest) if form == "lines" else _frames(rest)
        if not data and rest:
            if form == "frames":
                raise UsageError(f"standard input ends within a frame: {len(rest)} bytes are left")
            messages.append(bytes(rest))
        if len(rest) > MESSAGE_BYTES_MAX + 4:
            raise UsageError("standard input: a message has at most 16777216 bytes")
        if messages:
            yield messages
        if not data:
            return


def _lines(rest: bytearray) -> list[bytes]:
    end = rest.rfind(b"\n")
    if end < 0:
        return []
    lines = bytes(rest[:end]).split(b"\n")
    del rest[: end + 1]
    return lines


def _frames(rest: bytearray) -> list[bytes]:
    messages = []
    at = 0
    while at + 4 <= len(rest):
        (length,) = struct.unpack_from("<I", rest, at)
        if length > MESSAGE_BYTES_MAX:
            raise UsageError(f"standard input: a frame of {length} bytes, more than 16777216")
        if at + 4 + length > len(rest):
            break
        messages.append(bytes(rest[at + 4 : at + 4 + length]))
        at += 4 + length
    del rest[:at]
    return messages


def say(text: str) -> None:
    """A line for people, beside the output."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def several(count: int, what: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def size_text(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
