from dragoman.flow.ranks import Account
from dragoman.flow.shares import Holder

class CreditPool:
    """The credits of one provider. ``limit`` is how many requests it takes at once."""

    limit: int
    granted: int
    orphaned: int
    in_use: int
    def __init__(self, limit: int) -> None: ...
    short: bool
    accounts: int
    def account(self, source: str, identity: bytes) -> Account:
        """The account of a peer: who it says it is, and where it comes from."""
    def join(self, holder: Holder, account: Account | None = None) -> int:
        """A caller has connected: it gets its share. ValueError if it is in a pool already."""
    def kept(self, holder: Holder, n: int) -> int:
        """How many credits the holder keeps for certain if it answers a reclaim with ``n``."""
    def review(self) -> int:
        """Some time has passed; called again and again while somebody waits (``short``)."""
    def leave(self, holder: Holder) -> int:
        """A caller is gone; its unused credits are free at once, the others as their work ends."""
    def returned(self, holder: Holder, n: int) -> int:
        """The caller gives ``n`` unused credits back; ValueError if it has fewer."""
    def demand(self, holder: Holder, waiting: int) -> int:
        """The caller has ``waiting`` requests that it cannot send for want of credit."""
    def set_limit(self, limit: int) -> int:
        """The provider takes more or fewer at once from now on."""
    def statistics(self) -> dict[str, int]:
        """A plain dict: limit, granted, in_use, holders."""

class RecordingHolder(Holder):
    """A holder that keeps what it was told, for tests of the pool."""

    told_granted: int
    told_reclaim: int
    grants: int
    reclaims: int
    def begin(self) -> bool:
        """Start a request; False without credit."""
    def end(self, pool: CreditPool) -> int:
        """End a request; returns the credits that come back with the reply."""
