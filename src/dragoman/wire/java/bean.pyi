from collections.abc import Iterable, Mapping
from typing import Any

class Bean(dict[str, Any]):
    """A Java object: a mapping from field names to values, with the name of its class.

    ``Bean("com.example.User", {"name": "Ann"}, age=7)``. An enum's constant is a bean whose only
    field is ``name``. Two beans are equal if class and fields are; a bean equals a plain mapping
    with the same fields. The name of the class is text and nothing else: no class is looked up.
    ``constant`` is whether it is an enum's constant, where the bytes or their maker said so; else
    None.
    """

    java_class: str
    constant: bool | None
    def __init__(
        self,
        java_class: str,
        fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        /,
        **more: Any,
    ) -> None: ...
    def __hash__(self) -> int: ...  # type: ignore[override]
    def copy(self) -> Bean: ...

KEY_PARTS_MAX: int

class MapKey(dict[Any, Any]):
    """A map that is a key of another map: it can be hashed, and must not be changed."""

    java_class: str
    def __hash__(self) -> int: ...  # type: ignore[override]
