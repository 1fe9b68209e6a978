class Replies:
    """Reads the replies of one provider."""

    def give(
        self,
        serialization: int,
        body: bytes,
        *,
        answer: str,
        envelope: bool = False,
        class_names: bool = False,
        generic: bool = False,
        gson: bool = False,
    ) -> tuple[int, bytes | str]:
        """The answer to a reply as ``(code, bytes or text)`` (for tests)."""
    def answer_to(self, asked: bytes, serialization: int, body: bytes) -> tuple[int, bytes | str]:
        """The answer to a reply as ``give`` has it; ``asked`` is ``Asked``'s bytes."""
