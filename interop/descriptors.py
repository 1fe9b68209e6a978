"""JVM descriptors as the Java names that the HTTP contract takes."""

from __future__ import annotations

import re

PRIMITIVES = {
    "Z": "boolean",
    "B": "byte",
    "S": "short",
    "C": "char",
    "I": "int",
    "J": "long",
    "F": "float",
    "D": "double",
}
_ONE = re.compile(r"(\[*)(?:L([^;]+);|([ZBSCIJFD]))")


def java_names(descriptor: str) -> list[str]:
    """``["java.lang.String", "int[]"]`` for ``Ljava/lang/String;[I``."""
    return [
        (found[2].replace("/", ".") if found[2] else PRIMITIVES[found[3]]) + "[]" * len(found[1])
        for found in _ONE.finditer(descriptor)
    ]
