"""Retention: how much of a store's log is to stay, and the clock that its age goes by.

``QueueStore`` asks before each round of upkeep. The invariant: a wall clock that jumps ahead, as
one that was set wrongly does, is followed at twice the pace of time, so that an hour of it takes an
hour and whoever looks at the log can set it right.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dragoman.errors import DragomanError, StorageError

# By so much a clock may be set without a word; twice a second at the most.
CLOCK_SLACK_S = 5.0


class Retention:
    """The bounds, None where there is none, and the clock."""

    def __init__(self, age_s: float | None, bytes_max: int | None, messages: int | None) -> None:
        self.age_s = age_s
        self.bytes_max = bytes_max
        self.messages = messages
        # How far in the future the oldest segment is stamped.
        self.ahead_s = 0
        # The wall clock as far as it is believed, and the monotonic one then.
        self._believed = time.time(), time.monotonic()

    def now_s(
        self,
        oldest: Callable[[], tuple[int, int] | None],
        complain: Callable[[DragomanError], None],
    ) -> float:
        """The wall clock as far as it is believed. ``oldest`` gives the slot of the oldest segment
        and when its newest message was stamped."""
        wall_s, now_s = time.time(), time.monotonic()
        believed_s, at_s = self._believed
        believed_s = min(wall_s, believed_s + 2 * (now_s - at_s) + CLOCK_SLACK_S)
        self._believed = believed_s, now_s
        if self.age_s is None:
            return believed_s
        if wall_s - believed_s > CLOCK_SLACK_S:
            complain(StorageError("the clock jumped ahead: retention follows it at twice the pace"))
        segment = oldest()
        self.ahead_s = max(0, round(segment[1] - wall_s)) if segment is not None else 0
        if self.ahead_s > CLOCK_SLACK_S:
            complain(
                StorageError(
                    "the oldest messages are stamped in the future: retention by age waits for them"
                )
            )
        return believed_s

    def past(self, newest_s: int, now_s: float, log_bytes: Callable[[], int]) -> bool:
        """Whether a segment whose newest message was stamped at ``newest_s`` is to go."""
        return (self.age_s is not None and newest_s < now_s - self.age_s) or (
            self.bytes_max is not None and log_bytes() > self.bytes_max
        )
