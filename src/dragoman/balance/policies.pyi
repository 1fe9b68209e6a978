class Candidate:
    """An endpoint as a policy knows it: weight (capacity), requests in flight, room for more."""

    weight: float
    inflight: int
    room: int
    charged: int
    def __init__(self, weight: float = 1.0, inflight: int = 0, room: int = 0) -> None: ...

class Policy:
    """Base of the policies. ``seed`` makes the random ones repeatable.

    ``quantum`` is how many requests that come together a pick may stand for.
    """

    quantum: int
    def __init__(self, seed: int | None = None) -> None: ...
    def choose(self, candidates: list[Candidate]) -> Candidate | None:
        """The candidate that gets the next request, or None when none has room."""

class Demand(Policy): ...
class LeastActive(Policy): ...
class PowerOfTwoChoices(Policy): ...
class SmoothWeightedRoundRobin(Policy): ...
class RoundRobin(Policy): ...
class WeightedRandom(Policy): ...
class Random(Policy): ...

POLICIES: dict[str, type[Policy]]

def policy(name: str, seed: int | None = None) -> Policy:
    """The policy of that name, new; raises UsageError naming the choices for an unknown one."""
