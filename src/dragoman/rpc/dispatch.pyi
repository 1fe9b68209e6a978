import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from dragoman.rpc.server_session import Handler
from dragoman.rpc.statistics import RequestInfo

class Dispatcher(Handler):
    """Answers requests with ``functions``: a dict from method name to function, or one function for
    every name. ``executor`` runs the functions that are not coroutine functions, unless it is None.
    """

    bytes: int
    in_progress: int
    requests: int
    errors: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        functions: dict[str, Callable[[Any], Any]] | Callable[[Any], Any],
        *,
        bytes_max: int,
        executor: Executor | None = None,
    ) -> None: ...

def current_request() -> RequestInfo:
    """The request that a handler answers, as far as it may know it.

    Works in the handler itself and in whatever it awaits or starts. Raises UsageError elsewhere.
    """
