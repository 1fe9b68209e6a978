from dragoman.timers import Timed

class Waiter(Timed):
    """Something that waits."""

class WaitingQueue:
    """At most ``maximum`` waiters, the earliest deadline first."""

    maximum: int
    live: int
    shed: int
    def __init__(self, maximum: int) -> None: ...
    def offer(self, waiter: Waiter, due_us: int) -> bool:
        """Let ``waiter`` wait; False when it is turned away."""
    def next(self) -> Waiter | None:
        """The waiter with the earliest deadline, no longer waiting."""
    def remove(self, waiter: Waiter) -> None:
        """``waiter`` waits no longer."""
    def __len__(self) -> int: ...
