"""The books of one provider's credits: what its callers hold, use and demand, and who is poorest.

``flow.credits`` shares the credits by these books; ``flow.hoarding`` and ``flow.reclaim`` look at
them too. Shares go by account, not by holder: the holders of one peer share what the peer gets, and
the peers of one source what the source gets.

Invariant: a holder waits in its account's line exactly while ``waiting`` is not 0, and an account
while any of its members does; one that is doubted waits in a line of its own instead.
"""

from dragoman.flow.ranks cimport PROTECTED, Account, Poorest, Ranked, Ranks


cdef class Holder(Ranked):
    """One caller's account. Subclasses carry ``grant`` and ``reclaim`` to the caller; neither may
    call the pool.
    """

    cdef void grant(self, int n):
        """``n`` more credits are the caller's."""

    cdef void reclaim(self, int n):
        """The caller is asked to give back up to ``n`` unused credits (answered by ``returned``).
        """

    cdef void overdue(self, int reviews):
        """The caller owes the answer to a reclaim, since so many reviews."""


cdef class Shares:
    """The credits of one provider that are out. ``limit`` is how many requests it takes at once."""

    def __cinit__(self, int limit):
        if limit < 1:
            raise ValueError(f"a credit pool's limit must be at least 1: {limit}")
        self.limit = limit
        self._holders = set()
        self._ranks = Ranks()
        self._waiters = Poorest()
        self._doubtful = Poorest()
        self._accounts = {}
        self._doubted_sources = {}
        self._asked_holders = []
        self._told = []

    cdef int wanted(self, Holder holder) noexcept:
        """The holder's demand: in use + waiting, or the recent peak of use, brought up to this
        turn.
        """
        cdef int waiting = holder.waiting
        if waiting and holder.held > holder.in_use \
                and holder._granted_turn + TURNS_A_LIMIT < self._turn:
            # A holder with unused ones for so long has nothing that waits for them.
            waiting = 0
        while holder._peak_turn < self._turn and holder._peak > holder.in_use:
            # Forgotten within about the time that one request takes.
            holder._peak -= (holder._peak + TURNS_A_LIMIT - 1) // TURNS_A_LIMIT
            holder._peak_turn += 1
        if holder._peak_turn < self._turn:
            holder._peak_turn = self._turn
        if holder._peak < holder.in_use:
            holder._peak = holder.in_use
        return max(holder.in_use + waiting, holder._peak)

    cdef void change(self, Holder holder, int n) noexcept:
        """Have the holder hold ``n`` more (fewer if negative)."""
        cdef Ranked node = holder
        self.granted += n
        while node is not None:
            node.held += n
            if node._place >= 0:
                if node is holder and holder._aside:
                    self._doubtful.changed(node, n)
                else:
                    self.line_of(node).changed(node, n)
            node = node.account
        if n > 0 or holder._rank < PROTECTED or holder.held == 0:
            self._ranks.put_by_held(holder)

    cdef void protect(self, Holder holder) noexcept:
        """Nothing is to be taken from the holder, unless those who wait are far poorer."""
        self._ranks.put(holder, PROTECTED)
        self._unjudged += 1

    cdef Poorest line_of(self, Ranked node):
        """The line where it waits, if it does."""
        if node.account is None:
            return self._waiters
        return (<Account>node.account).waiters

    cdef int set_waiting(self, Holder holder, int waiting) except -1:
        """The holder demands ``waiting``, of which it is believed what its line allows; all of it
        is remembered, for a caller says a demand once.
        """
        holder._wants = waiting
        if holder._line:
            waiting = min(waiting, max(0, holder._line - holder.held + holder.in_use))
        if waiting and holder._place < 0:
            self._line_up(holder)
        elif not waiting and holder._place >= 0:
            self._step_out(holder)
        self._waiting += waiting - holder.waiting
        holder.waiting = waiting
        return 0

    cdef int _line_up(self, Holder holder) except -1:
        """The holder waits from now on, and with it its peer and its source."""
        cdef Ranked node = holder
        if holder.doubted:
            holder._aside = True
            return self._doubtful.add(holder)
        while node is not None and node._place < 0:
            self.line_of(node).add(node)
            node = node.account
        return 0

    cdef void _step_out(self, Holder holder):
        """The holder waits no more."""
        cdef Ranked node = holder
        cdef Poorest line
        if holder._aside:
            holder._aside = False
            self._doubtful.remove(holder)
            return
        while node is not None:
            line = self.line_of(node)
            line.remove(node)
            if line.count:
                return
            node = node.account

    cdef Holder poorest(self):
        """The poorest who waits, of the poorest peer of the poorest source; None if nobody waits.
        """
        cdef Poorest line = self._waiters
        cdef Ranked node
        if line.count == 0:
            return <Holder>self._doubtful.first()
        while True:
            node = line.first()
            if not isinstance(node, Account):
                return <Holder>node
            line = (<Account>node).waiters
