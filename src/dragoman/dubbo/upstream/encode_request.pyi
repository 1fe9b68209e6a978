from collections.abc import Sequence

METHODS: dict[bytes, int]
SERIALIZATIONS: dict[str, int]

def check_serialization(name: str) -> None:
    """Raise UsageError for one that is not spoken."""

class Requests:
    """Makes Dubbo requests for one provider; ``serialization`` is one of SERIALIZATIONS."""

    serialization: int
    def make(self, method: bytes, id: int, body: bytes, timeout_ms: int = 0) -> bytes:
        """The whole frame for a request by a mesh method (for tests). Raises UsageError."""

    def make_asked(self, method: int, body: bytes, timeout_ms: int) -> tuple[bytes, bytes]:
        """The frame, with id 0, for a request by the mesh method of that number, and what it asked
        for as ``Asked``'s bytes. Raises UsageError."""

    def __init__(
        self,
        serialization: str,
        *,
        group: str = "",
        version: str = "",
        path: str = "",
        token: str = "",
        interfaces: Sequence[str] | None = None,
    ) -> None: ...
