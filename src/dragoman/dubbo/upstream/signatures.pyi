def remembered_signatures() -> tuple[int, int]:
    """How many are remembered, and the bytes of their keys (for tests)."""
