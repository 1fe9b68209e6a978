def request_is_costly(serialization: int, method: int, body: bytes) -> bool:
    """Whether a request by the mesh method of that number takes long to be made."""

def reply_is_costly(asked: bytes, serialization: int, body: bytes) -> bool:
    """Whether a reply takes long to be read for who asked so; ``asked`` is ``Asked``'s bytes."""
