from collections.abc import Set as AbstractSet
from typing import Any

DEPTH_MAX: int

class JsonbWriter:
    """Writes documents one after another, each with names and references of its own.

    ``take()`` gives the bytes written so far. ``constants`` are the classes of which beans with the
    one field ``name`` are an enum's constants, if that is known; otherwise each bean says so, or
    ``jsonb.classes.is_constant``. UsageError when a value cannot be written or nests deeper than
    ``depth_max``; begin a new writer then.
    """

    def __init__(
        self, *, constants: AbstractSet[str] | None = None, depth_max: int = ...
    ) -> None: ...
    def write(self, value: Any, descriptor: str | None = None) -> None:
        """Write ``value`` as a document, as the one JVM descriptor says, if given."""

    def take(self) -> bytes:
        """The bytes written since the last ``take``."""

def encode(value: Any, descriptor: str | None = None, *, depth_max: int = ...) -> bytes:
    """The document of a value.

    ``descriptor`` is that of a method's parameter. It chooses among the forms of a number or a
    character; the value must fit it already. UsageError when the value cannot be written.
    """
