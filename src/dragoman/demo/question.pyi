from typing import Final

INTERFACE: Final[str]
METHOD: Final[str]
PARAMETER_TYPES: Final[str]

def hash_code(text: bytes) -> int:
    """Java's ``hashCode`` of ASCII text, as a signed 32-bit number."""

def answers(text: bytes, expected: int) -> bool:
    """Whether an answer's text is the number ``expected``.

    White space around it does not matter.
    """

def draw(seed: int, *, head: bytes = b"") -> tuple[bytes, int]:
    """A whole request with the random form of a seed, and the hash expected (for tests)."""
