import asyncio
from collections.abc import Callable, Sequence

from dragoman.dubbo.upstream.link import DubboLink
from dragoman.dubbo.upstream.transcoder import Transcoder
from dragoman.flow.credits import CreditPool
from dragoman.observe.histogram import Histogram
from dragoman.rpc.server_session import Handler

class Egress(Handler):
    """Turns requests from mesh sessions into calls on ``link``."""

    pool: CreditPool
    link: DubboLink
    in_progress: int
    limit_max: int
    requests: int
    succeeded: int
    rejections: int
    sent_again: int
    late: int
    errors: dict[int, int]
    latency: Histogram
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: DubboLink,
        pool: CreditPool,
        *,
        group: str = "",
        version: str = "",
        serialization: str = "fastjson",
        path: str = "",
        token: str = "",
        learning: bool = False,
        sharing: bool = False,
        limit_max: int = 10000,
        timeout_ms: int = 600000,
        interfaces: Sequence[str] | None = None,
        transcoder: Transcoder | None = None,
    ) -> None: ...
    silent: bool
    serialization: str
    on_unheard: Callable[[], object] | None
    def speak(self, serialization: str) -> None:
        """From now on ask the provider in this serialization; raises UsageError."""

    def probe(self, interface: str, every_ms: int) -> None:
        """From now on ask the provider's pool itself, by ``$echo``, whether it still answers."""

    def stop(self) -> None:
        """Probe no more."""

    def shed(self, proportion: float) -> None:
        """From now on refuse this proportion of requests: the process is short of memory."""
