from dragoman.flow.ranks import Ranked

class Holder(Ranked):
    """One caller's account. Subclasses carry grants and reclaims to the caller."""

    in_use: int
    waiting: int
    wasted: int
    doubted: bool
