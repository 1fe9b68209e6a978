def java_hash(text: str) -> int:
    """The result of ``text.hashCode()`` in Java. Lone surrogates count as the units they are."""

def java_hash_of_json(json: bytes) -> int:
    """The same, of a well-formed JSON string with its quotes."""
