from typing import Any

from typing_extensions import Buffer as BytesLike

DEPTH_MAX: int
CONTAINERS_MAX: int

class JsonbReader:
    """Reads the documents in ``data`` one after another; each has its own names and references.

    ``data`` (bytes-like) is kept until the reader goes. With ``exact`` all of Java's types are kept
    (``dragoman.wire.java``), with ``typed`` what subclasses of Python's types can keep: ``Long``,
    ``BigInteger``, ``TypedList``, ``TypedMap``. ``read`` raises ProtocolError with the place,
    LimitError beyond ``depth_max`` or ``containers_max``; afterwards the reader is of no more use.
    """

    at: int
    def __init__(
        self,
        data: BytesLike,
        *,
        exact: bool = False,
        typed: bool = False,
        depth_max: int = ...,
        containers_max: int = ...,
    ) -> None: ...
    def read(self) -> Any:
        """The value of the next document."""

    @property
    def at_end(self) -> bool:
        """Whether all has been read."""

def decode(
    data: BytesLike,
    *,
    exact: bool = False,
    typed: bool = False,
    constants: set[str] | None = None,
    depth_max: int = ...,
    containers_max: int = ...,
) -> Any:
    """The value that ``data`` is. ProtocolError when it is not exactly one.

    ``constants`` gets the classes that came as an enum's constants do: by their name alone.
    """

def decode_weighed(
    data: BytesLike, weight_left: int, *, exact: bool = False, typed: bool = False
) -> tuple[Any, int]:
    """The value that ``data`` is, and what is left of what may be read of it and others."""
