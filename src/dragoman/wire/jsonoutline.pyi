def outline(
    json: bytes | memoryview, name: bytes, items_max: int, beside_max: int
) -> tuple[bytes, int]:
    """``json``, an object, with each value of the array that is its member ``name`` as null; and
    where its closing brace is.

    UsageError when it is no object, when the array has more than ``items_max`` values, and when all
    else has more than ``beside_max`` bytes.
    """
