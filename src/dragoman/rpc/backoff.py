"""How long to wait before connecting again: exponential, jittered, bounded.

Used by ``rpc.link`` and ``dubbo.upstream.link``. The jitter spreads the reconnections of many
programs whose server restarted.
"""

from __future__ import annotations

import random

# One for all: the state of a source is larger than the rest of an idle connection.
_random = random.Random()


class Backoff:
    """Delays in seconds from ``least_s`` doubling to ``most_s``, each drawn from its upper half."""

    def __init__(
        self, least_s: float = 0.05, most_s: float = 5.0, source: random.Random | None = None
    ) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._next_s = least_s
        self._random = source or _random

    def next_s(self) -> float:
        """The next delay."""
        delay_s = self._next_s
        self._next_s = min(self._next_s * 2, self._most_s)
        return delay_s * (0.5 + self._random.random() / 2)

    def reset(self) -> None:
        """A connection held: start again from the least delay."""
        self._next_s = self._least_s
