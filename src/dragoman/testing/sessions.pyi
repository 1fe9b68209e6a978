from collections.abc import Callable, Iterable

from dragoman.errors import DragomanError
from dragoman.rpc.client_session import ClientSession, SessionOwner
from dragoman.rpc.server_session import Handler, ServerSession

class OutgoingCall:
    """A call made by ``send``. ``done`` tells whether it has ended."""

    done: bool
    def cancel(self) -> None:
        """Stop waiting: no callback follows, and the server is told."""

def send(
    session: ClientSession,
    method: bytes,
    body: bytes,
    on_reply: Callable[[bytes], object],
    on_error: Callable[[DragomanError], object],
    *,
    timeout_ms: int | None = None,
) -> OutgoingCall:
    """Call ``method`` with ``body``; exactly one of the callbacks follows.

    ``timeout_ms`` (None: no deadline) bounds the wait and travels to the server. Raises
    OverloadError without credit, LinkLostError when the session is not open, LimitError when the
    body is too long for the peer, UsageError for arguments that cannot be sent.
    """

def tell_waiting(session: ClientSession, waiting: int) -> None:
    """Tell the server that ``waiting`` requests wait for its credit."""

class SessionEvents(SessionOwner):
    """Hears of a client session's life through functions that take the session."""

    def __init__(
        self,
        *,
        on_ready: Callable[[ClientSession], object] | None = None,
        on_credit: Callable[[ClientSession], object] | None = None,
        on_goodbye: Callable[[ClientSession], object] | None = None,
        on_lost: Callable[[ClientSession], object] | None = None,
    ) -> None: ...

class IncomingRequest:
    """One request at the server; answer it once, with ``reply`` or ``fail``, now or later.

    ``unwanted`` becomes true when the caller no longer waits.
    """

    session: ServerSession
    id: int
    method: bytes
    body: bytes
    timeout_ms: int
    answered: bool
    unwanted: bool
    def reply(self, body: bytes) -> None:
        """Send the result. Raises UsageError the second time."""
    def fail(self, error: BaseException) -> None:
        """Send an error. Raises UsageError the second time."""

class RequestHandler(Handler):
    """Hands each request of any number of server sessions to ``on_request``.

    What ``on_request`` raises is the answer. ``methods`` names those that exist; None takes every
    name. ``on_unwanted`` hears when a caller no longer waits.
    """

    in_progress: int
    def __init__(
        self,
        on_request: Callable[[IncomingRequest], object],
        *,
        methods: Iterable[bytes] | None = None,
        on_unwanted: Callable[[IncomingRequest], object] | None = None,
    ) -> None: ...
