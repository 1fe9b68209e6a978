from collections.abc import Sequence

def home_of(names: Sequence[str], key: bytes, weights: Sequence[float] | None = None) -> str | None:
    """The one of ``names`` that ``key`` belongs to, or None when there are none."""
