from collections.abc import Callable

from dragoman.cluster.service import Service
from dragoman.errors import DragomanError

class ServiceRequest:
    """A request made by ``submit``. ``done`` tells whether it has ended."""

    done: bool
    def cancel(self) -> None:
        """Withdraw the request: no callback follows."""

def submit(
    service: Service,
    method: bytes,
    body: bytes,
    on_result: Callable[[bytes], object],
    on_failure: Callable[[DragomanError], object],
    *,
    timeout_ms: int = 5000,
) -> ServiceRequest:
    """Send ``body`` to ``method`` of some endpoint; exactly one of the callbacks follows.

    ``timeout_ms`` is the time allowed in all, waiting and retries included. Raises UsageError for
    arguments that cannot be sent.
    """

async def call(service: Service, method: bytes, body: bytes, *, timeout_ms: int = 5000) -> bytes:
    """``submit``, awaited: the result, or the DragomanError raised."""
