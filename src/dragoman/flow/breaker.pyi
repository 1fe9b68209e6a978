class Breaker:
    """``threshold`` failures in a row open it; the first probe goes ``pause_ms`` later."""

    open: bool
    failures: int
    trips: int
    def __init__(
        self, threshold: int = 5, pause_ms: int = 500, pause_most_ms: int = 1000
    ) -> None: ...
    def record(self, succeeded: bool, now_us: int) -> None:
        """A request has ended."""
    def may(self, now_us: int) -> bool:
        """Whether a request may go; when open, True at most once a pause, for the probe."""

class RetryBudget:
    """Retries may be ``ratio`` of the requests, with a reserve of ``reserve``."""

    def __init__(self, ratio: float = 0.1, reserve: float = 20.0) -> None: ...
    def spend(self) -> bool:
        """Take one retry out of the budget; False when it is spent."""
    def earn(self) -> None:
        """A request was made."""
