from collections.abc import Iterable

from typing_extensions import Buffer as BytesLike

class Hessian2Scanner:
    """Turns the values of one stream into JSON, or skips them, one after another.

    ``data`` is kept until the scanner goes or starts again. Beans have a member ``class`` first
    if ``with_class``. ``enums`` are the names of the classes that are enums, if they are known;
    else every class whose only field is ``name`` is taken for one: the bytes do not tell.
    ProtocolError with the place where something is wrong, LimitError beyond ``depth_max``,
    ``containers_max`` or ``json_bytes_max``; afterwards the scanner has to start again.
    """

    at: int
    def __init__(
        self,
        data: BytesLike = b"",
        *,
        with_class: bool = False,
        enums: Iterable[str] | None = None,
        depth_max: int = ...,
        containers_max: int = ...,
        json_bytes_max: int = ...,
    ) -> None: ...
    def read_json(self) -> bytes:
        """The JSON text of the next value, UTF-8."""

    def skip_value(self) -> None:
        """Pass over the next value."""

    @property
    def at_end(self) -> bool:
        """Whether all has been read."""

def to_json(
    data: BytesLike,
    *,
    with_class: bool = False,
    enums: Iterable[str] | None = None,
    depth_max: int = ...,
    containers_max: int = ...,
    json_bytes_max: int = ...,
) -> bytes:
    """The JSON text, in UTF-8, of the one value that ``data`` is."""
