from dragoman.wire.http1.events import Response
from dragoman.wire.http1.message import MessageDecoder

class ResponseDecoder(MessageDecoder):
    """Decodes the responses of one connection; 1xx are passed over. Limits are in bytes."""

    head_only: bool
    def __init__(
        self,
        *,
        head_bytes_max: int = 16384,
        fields_max: int = 100,
        body_bytes_max: int = 1048576,
        wanted: tuple[str, ...] = (),
    ) -> None: ...
    def poll(self) -> Response | None:
        """The next response, or None while more bytes are needed; raises ``HttpError``."""

    def receive_eof(self) -> Response | None:
        """The peer has closed: the response that this ends, or None; ``HttpError`` if it is cut."""
