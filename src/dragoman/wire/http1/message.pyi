from dragoman.errors import ProtocolError
from dragoman.wire.http1.section import SectionDecoder

class HttpError(ProtocolError):
    """The peer's bytes are not HTTP/1.1 as dragoman takes it; ``status`` is the answer to give."""

    status: int
    reason: str
    def __init__(self, status: int, reason: str) -> None: ...

class MessageDecoder(SectionDecoder):
    """The common part of both decoders; not used by itself."""

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; then ``poll`` until it gives None."""

    def measure(self, data: bytes, rounds: int) -> int:
        """Decode ``data`` so many times and return how many messages there were (benchmarks)."""

    @property
    def unfinished(self) -> bool:
        """Whether bytes of an unfinished message are held."""

    @property
    def unread_bytes(self) -> int:
        """How many received bytes have not been read yet."""
