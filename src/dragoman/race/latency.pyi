class LatencyHistogram:
    """Latencies in nanoseconds, within 0.8 %; ``summary`` gives them in milliseconds."""

    @property
    def count(self) -> int: ...
    def add(self, nanoseconds: int) -> None:
        """Record one latency."""

    def percentile(self, fraction: float) -> float:
        """The latency in nanoseconds that ``fraction`` of all are not above.

        0 if there are none.
        """

    def summary(self) -> dict[str, float]:
        """Mean, min, max, p50, p90, p99, p99_9 in milliseconds; all 0 without a request."""
