from typing import Any

from typing_extensions import Buffer as BytesLike

DEPTH_MAX: int
CONTAINERS_MAX: int

class Hessian2Reader:
    """Reads the values of one stream, one after another.

    ``data`` (bytes-like) is kept until the reader goes. With ``exact`` all of Java's types are kept
    (``dragoman.wire.java``). Every method raises ProtocolError with the place, LimitError beyond
    ``depth_max`` or ``containers_max``; afterwards the reader is of no more use.
    """

    at: int
    def __init__(
        self,
        data: BytesLike,
        *,
        exact: bool = False,
        depth_max: int = ...,
        containers_max: int = ...,
    ) -> None: ...
    def read(self) -> Any:
        """The next value."""

    def read_int(self) -> int:
        """The next value, which must be an int or a long."""

    def read_text(self) -> str | None:
        """The next value, which must be a string or null."""

    @property
    def at_end(self) -> bool:
        """Whether all has been read."""

def decode(
    data: BytesLike, *, exact: bool = False, depth_max: int = ..., containers_max: int = ...
) -> Any:
    """The one value that ``data`` is. ProtocolError when it is not exactly one."""

def decode_stream(
    data: BytesLike, *, exact: bool = False, depth_max: int = ..., containers_max: int = ...
) -> list[Any]:
    """All values of one stream."""
