from dragoman.wire.http1.events import Request
from dragoman.wire.http1.message import MessageDecoder

class RequestDecoder(MessageDecoder):
    """Decodes the requests of one connection. Limits in bytes; ``fields_max`` includes trailers.

    ``wanted`` names up to eight fields, in lower case, whose (first) values are recorded.
    """

    def __init__(
        self,
        *,
        head_bytes_max: int = 16384,
        target_bytes_max: int = 8192,
        fields_max: int = 100,
        body_bytes_max: int = 1048576,
        wanted: tuple[str, ...] = (),
    ) -> None: ...
    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; then ``poll`` until it gives None."""

    def poll(self) -> Request | None:
        """The next request, or None while more bytes are needed; raises ``HttpError``."""

    def measure(self, data: bytes, rounds: int) -> int:
        """Decode ``data`` so many times and return how many requests were seen (for benchmarks)."""

    @property
    def continue_wanted(self) -> bool:
        """After None from ``poll``: the peer waits for ``100 Continue``."""

    @property
    def unfinished(self) -> bool:
        """Whether bytes of an unfinished request are held."""

    @property
    def unread_bytes(self) -> int:
        """How many received bytes have not been read yet."""
