from typing import Any

class ClosedLoop:
    """One run of the load; ``run`` makes the figures.

    ``address`` is an item of what ``socket.getaddrinfo`` gave. Either ``request`` is sent again and
    again, or ``form_head`` with a random form each time whose answer is checked. Times in seconds.
    """

    def __init__(
        self,
        address: tuple[Any, ...],
        *,
        connections: int,
        duration_s: float,
        warmup_s: float = 0.0,
        timeout_s: float = 10.0,
        spread_s: float = 0.1,
        request: bytes | None = None,
        form_head: bytes | None = None,
        head_only: bool = False,
        seed: int = 0,
    ) -> None: ...
    def run(self) -> dict[str, Any]:
        """Apply the load and return the figures (``dragoman.race.load`` describes them)."""
