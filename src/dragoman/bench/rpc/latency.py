"""Percentiles of what calls took, exact. Used by everything that calls one at a time."""

from __future__ import annotations

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


def summary(took_ns: list[int]) -> dict[str, float]:
    """``mean``, ``min``, ``p50``, ``p90``, ``p99``, ``p99_9``, ``max`` in microseconds.

    Sorts ``took_ns``, which must not be empty.
    """
    took_ns.sort()
    count = len(took_ns)
    found = {
        name: took_ns[min(count - 1, int(share * count))] for name, share in PERCENTILES.items()
    }
    found |= {"min": took_ns[0], "max": took_ns[-1]}
    figures = {name: value / 1000 for name, value in found.items()}
    return {"mean": sum(took_ns) / count / 1000} | figures
