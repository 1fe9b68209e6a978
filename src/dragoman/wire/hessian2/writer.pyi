from collections.abc import Sequence
from typing import Any

DEPTH_MAX: int

class Hessian2Writer:
    """Writes the values of one stream, one after another.

    ``take()`` gives the bytes written so far. UsageError when a value cannot be written, nests
    deeper than ``depth_max`` or does not fit its descriptor; begin a new writer then.
    """

    def __init__(self, *, depth_max: int = ...) -> None: ...
    def write(self, value: Any, type: str | None = None) -> None:
        """Write ``value``, as the one JVM descriptor or Java type name ``type`` says, if given."""

    def take(self) -> bytes:
        """The bytes written since the last ``take``."""

def encode(
    *values: Any,
    types: str | Sequence[str] | None = None,
    depth_max: int = ...,
    tree: bool = False,
) -> bytes:
    """The values as one stream.

    ``types`` is a JVM descriptor of all of them, such as ``Ljava/lang/String;J``, or a list with a
    descriptor or Java type name for each. ``tree``: no container comes twice in them, so there is
    nothing to refer to and nothing to remember. UsageError when a value cannot be written or does
    not fit its type.
    """
