import asyncio
from collections.abc import Callable
from typing import Any

class Waiter:
    """A call that a thread waits for."""

    def cancel(self) -> None:
        """Wait no more; the client withdraws the call within about 20 ms."""

    def wait(self) -> Any:
        """The result, or raise the error, as soon as there is one. Once only. Whatever interrupts
        the waiting (a KeyboardInterrupt) cancels the call."""

class Inbox:
    """Calls on their way to ``loop``. ``bind`` says to which client, on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def bind(self, client: Any) -> None:
        """Calls go to ``client``, whose loop runs in this thread."""

    def create_future(self) -> Any:
        """The future of the call that is being made, for the client."""

    def close(self, make_error: Callable[[], Exception]) -> None:
        """From now on whatever is put in fails with what ``make_error()`` gives."""

    def end(self) -> None:
        """The loop is closed: what has come too late to be taken fails."""

    def call(
        self, method: str, body: Any, timeout_ms: Any, order_key: Any, metadata: Any = None
    ) -> bytes:
        """``Client.call`` from any thread; waits for the reply."""

    def call_many(
        self, method: str, bodies: Any, timeout_ms: Any, order_key: Any, metadata: Any = None
    ) -> list[bytes]:
        """``Client.call_many`` from any thread; waits for the replies."""

    def notify(
        self, method: str, body: Any, timeout_ms: Any, order_key: Any, metadata: Any = None
    ) -> None:
        """``Client.notify`` from any thread; waits until the client has taken it."""

    def start(
        self, method: str, body: Any, timeout_ms: Any, order_key: Any, metadata: Any = None
    ) -> Waiter:
        """Begin a call; returns its Waiter."""

    def submit(
        self,
        future: Any,
        method: str,
        body: Any,
        timeout_ms: Any,
        order_key: Any,
        metadata: Any = None,
    ) -> None:
        """Begin a call that ends in ``future``, which must take a result after it was cancelled."""

    def take_all(self) -> None:
        """Make every call that is here; on the loop."""
