import asyncio

from dragoman.agent.ingress.shared import Ingress

class IngressConnection(asyncio.Protocol):
    """One HTTP connection whose requests become calls."""

    def __init__(self, ingress: Ingress) -> None: ...
    def close_silent(self, since_us: int) -> None:
        """End it, if it is idle and has been silent since then."""
    def close(self) -> None:
        """Close after what was written has left."""
