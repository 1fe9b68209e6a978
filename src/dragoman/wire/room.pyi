class Room:
    """Room for ``length`` bytes, which must be at least one. The memory is taken as it fills."""

    def __init__(self, length: int) -> None: ...
    def rest(self) -> memoryview:
        """The part not filled yet, from its beginning. Valid until ``fill`` and ``take``, and as
        long as the room is there."""

    def fill(self, n: int) -> bool:
        """So many bytes more have been written to ``rest``; whether it is whole."""

    def take(self) -> bytes:
        """The bytes, which are whole. The room is of no use from then on."""
