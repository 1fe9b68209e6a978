from dragoman.errors import ProtocolError

class HttpError(ProtocolError):
    """The peer's bytes are not HTTP/1.1 as dragoman takes it; ``status`` is the answer to give."""

    status: int
    reason: str
    def __init__(self, status: int, reason: str) -> None: ...

class MessageDecoder:
    """The common part of both decoders; not used by itself."""

    @property
    def keep_alive(self) -> bool: ...
    @property
    def content_kind(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str | None: ...
