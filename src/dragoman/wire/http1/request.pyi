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
    def poll(self) -> Request | None:
        """The next request, or None while more bytes are needed; raises ``HttpError``."""

    @property
    def continue_wanted(self) -> bool:
        """After None from ``poll``: the peer waits for ``100 Continue``."""
