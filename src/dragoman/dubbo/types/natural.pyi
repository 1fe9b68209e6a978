from collections.abc import Iterable

ANY: str

def descriptors_of(types: str | Iterable[str]) -> list[str]:
    """The descriptors of a list of Java types, or of one descriptor of them all, one by one; raises
    UsageError."""
