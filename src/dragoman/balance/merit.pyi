from collections.abc import Iterable

from dragoman.balance.policies import Candidate

def judged(
    candidates: list[Candidate],
    served_us: Iterable[tuple[Candidate, float]] = (),
    rejected: Iterable[Candidate] = (),
    *,
    apart_us: int = 1_000_000,
) -> list[Candidate]: ...
