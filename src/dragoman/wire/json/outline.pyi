class Outline:
    """Of ``json``, an object whose member ``name`` is an array: ``look`` until that says True, then
    ``take``."""

    def __init__(
        self, json: bytes | memoryview, name: bytes, items_max: int, beside_max: int
    ) -> None: ...
    def look(self, most: int) -> bool:
        """Go through about ``most`` bytes more; whether that was all.

        UsageError when it is no object, when the array has more than ``items_max`` values, and
        when all else has more than ``beside_max`` bytes.
        """

    def take(self) -> tuple[bytes, int]:
        """``json`` with each value of the array as null; and where its closing brace is."""
