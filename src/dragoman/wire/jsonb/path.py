r"""Paths in JSONB: where in its document a value stands that is referred to.

``$`` is the document, ``[2]`` a member of a list, ``.name`` a field or an entry; what could be
taken for something else in a name has a backslash before it: ``$.lines[0].a\.b``. The reader finds
values by them, the writer makes them. The invariant: a path costs no more than its own length.
"""

from __future__ import annotations

import re
from typing import Any

from dragoman.errors import LimitError

# Java finds these again; it does not find names with spaces, or empty ones.
_SAFE = re.compile(r"[^\W\d]\w*\Z")
_STEP = re.compile(r"\[(\d{1,10})\]|\.((?:[^.\[\\]|\\.)*)", re.DOTALL)


def find(root: Any, path: str) -> Any:
    """The value at ``path`` of a document that has been read. Raises LimitError."""
    at, value = 1, root
    if path[:1] != "$":
        raise _lost(path)
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise _lost(path)
        at = step.end()
        if step[1] is not None:
            index = int(step[1])
            if not isinstance(value, list) or index >= len(value):
                raise _lost(path)
            value = value[index]
        else:
            value = _member(value, re.sub(r"\\(.)", r"\1", step[2], flags=re.DOTALL), path)
    return value


def _member(value: Any, name: str, path: str) -> Any:
    if not isinstance(value, dict):
        raise _lost(path)
    if name in value:
        return value[name]
    # A path does not tell the type of a map's key.
    if re.fullmatch(r"-?\d{1,19}", name, re.ASCII) and int(name) in value:
        return value[int(name)]
    raise _lost(path)


def _lost(path: str) -> LimitError:
    # Java's own way to name what stands behind a key that is no text.
    return LimitError(f"fastjson2: a reference to {path!r:.200}, where there is nothing")


def text_of(steps: Any) -> str | None:
    """A path from its steps; None if Java would not find the way.

    ``()`` is the document itself, ``(steps, name or index)`` what stands in it there, None a place
    that has no path.
    """
    parts: list[str] = []
    while steps:
        steps, last = steps
        if isinstance(last, int) and not isinstance(last, bool) and steps is not None:
            parts.append(f"[{last}]")
        elif type(last) is str and _SAFE.match(last):
            parts.append(f".{last}")
        else:
            return None
    return None if steps is None else "$" + "".join(reversed(parts))
