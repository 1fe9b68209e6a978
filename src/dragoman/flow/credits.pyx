"""Credits: the right to have one request at a provider, granted to its callers and shared by
demand.

A pool stands beside one provider and knows its limit. Each connected caller is a holder; the sum of
all credits out never exceeds the limit, so the provider never has to reject. A credit in use comes
back with the reply, without a frame of its own; the pool withholds it there for a poorer one who
waits. What is free always goes to the poorest who waits, so the shares become max-min fair over
demand (in use + waiting, or the recent peak of use if that is more). Where a share is not a whole
number the odd credits go round, so that nobody starves when there are more callers than credits.
While somebody waits, the demand of the others is forgotten as requests end, without being told.
Knows nothing of protocols: a holder's ``grant`` and ``reclaim`` carry the words to the peer.

Credits that nobody demands stay where they are. A newcomer gets half of the largest surplus, and
what is given back goes first to those who never had any, so that an idle caller can start at once
where there is enough. Credits that are needed are asked back from the largest surplus first, and
from no more holders than it takes.

What an event costs depends on those who wait, or have credits that somebody needs; holders that are
idle, and those whose credits are all in use, are not looked at (see ``flow.ranks``).

Invariant: ``granted == sum(held) + orphaned <= max(limit, what was out when the limit was
lowered)``, and for each holder ``0 <= in_use <= held``; all of the limit is granted while there is
a holder.
"""

from dragoman.flow.ranks cimport BUSY, NEW, PROTECTED

# A turn is this part of a limit's worth of requests that end while somebody waits. Peaks are
# forgotten by this part in each turn; what was just granted on demand is left alone as long as a
# request takes.
cdef int TURNS_A_LIMIT = 8
# So many holders are asked in one go; when they answer, the next.
cdef int ASKED_AT_ONCE = 64
# Among so few holders free credits are divided when nobody waits for them.
cdef int PORTIONS = 8
# So many are compared for a newcomer's share.
cdef int COMPARED = 8


cdef class Holder(Ranked):
    """One caller's account. Subclasses carry ``grant`` and ``reclaim`` to the caller; neither may
    call the pool.
    """

    cdef void grant(self, int n):
        """``n`` more credits are the caller's."""

    cdef void reclaim(self, int n):
        """The caller is asked to give back up to ``n`` unused credits (answered by ``returned``).
        """


cdef class CreditPool:
    """The credits of one provider. ``limit`` is how many requests it takes at once."""

    def __cinit__(self, int limit):
        if limit < 1:
            raise ValueError(f"a credit pool's limit must be at least 1: {limit}")
        self.limit = limit
        self._holders = set()
        self._ranks = Ranks()
        self._waiters = Poorest()
        self._told = []

    cpdef int join(self, Holder holder) except -1:
        """A caller has connected: it gets its share of what nobody demands. ValueError if it is
        already in a pool.
        """
        if holder.pool is not None:
            raise ValueError("the holder is already in a pool")
        holder.pool = self
        holder.held = 0
        holder.in_use = 0
        holder.waiting = 0
        holder._asked = 0
        holder._peak = 0
        holder._peak_turn = self._turn
        holder._granted_turn = self._turn
        self._holders.add(holder)
        self._ranks.put(holder, NEW)
        if self.granted < self.limit:
            self._settle()
        elif not self._short:
            self._welcome()
        return 0

    cpdef int leave(self, Holder holder) except -1:
        """A caller is gone; its unused credits are free at once, those in use when their work ends.
        """
        if holder.pool is not self:
            return 0
        self._set_waiting(holder, 0)
        self._forget_asked(holder)
        self._ranks.remove(holder)
        self._holders.discard(holder)
        holder.pool = None
        self.granted -= holder.held - holder.in_use
        self.orphaned += holder.in_use
        holder.held = 0
        self._settle()
        return 0

    cdef bint began(self, Holder holder) noexcept:
        """A request of this holder starts. False when it had no credit for it: a violation."""
        if holder.in_use >= holder.held:
            return False
        holder.in_use += 1
        self.in_use += 1
        if holder._peak_turn < self._turn:
            self._wanted(holder)
        if holder.in_use >= holder._peak:
            holder._peak = holder.in_use
            if holder._peak_turn <= self._turn:
                # It counts for the turn that has begun and the whole of the next.
                holder._peak_turn = self._turn + 1
        return True

    cdef int done(self, Holder holder):
        """A request of this holder has ended. How many credits (0 or 1) go back with the reply."""
        holder.in_use -= 1
        self.in_use -= 1
        if holder.pool is None:
            self.orphaned -= 1
            self.granted -= 1
            self._settle()
            return 0
        if self._short:
            return self._done_short(holder)
        if holder._rank >= PROTECTED:
            self._ranks.put_by_held(holder)
        return 1

    cdef int _done_short(self, Holder holder):
        """The same while somebody waits: does the credit go back, or to somebody poorer?"""
        cdef Holder poorest = <Holder>self._waiters.first()
        cdef bint turned = False
        cdef bint back = True
        cdef int richer
        self._ended += 1
        if <int64_t>self._ended * TURNS_A_LIMIT >= self.limit:
            self._ended = 0
            self._turn += 1
            turned = True
        if self.granted > self.limit:
            back = False
        elif poorest is not holder:
            richer = holder.held - poorest.held
            # An odd credit stays for a turn, unless the other has nothing at all.
            if richer > 1 or holder.held > self._wanted(holder):
                back = False
            elif richer == 1:
                back = poorest.held > 0 and holder._granted_turn == self._turn
        if not back:
            self._change(holder, -1)
            self._settle()
            return 0
        if holder._rank == BUSY:
            self._protect(holder)
        if turned:
            self._ask_back()
        return 1

    cpdef int returned(self, Holder holder, int n) except -1:
        """The caller gives ``n`` unused credits back; -1 is raised as ValueError if it has fewer.
        """
        if n < 0 or n > holder.held - holder.in_use:
            raise ValueError(f"{n} credits given back, {holder.held - holder.in_use} were unused")
        if holder.pool is not self:
            return 0
        self._forget_asked(holder)
        if n:
            self._change(holder, -n)
        if holder._rank >= PROTECTED:
            self._ranks.put_by_held(holder)
        self._settle()
        return 0

    cpdef int demand(self, Holder holder, int waiting) except -1:
        """The caller has ``waiting`` requests that it cannot send for want of credit."""
        if holder.pool is not self:
            return 0
        if holder._rank == PROTECTED and waiting < holder.waiting:
            self._protect(holder)
        self._set_waiting(holder, max(waiting, 0))
        self._settle()
        return 0

    cpdef int set_limit(self, int limit) except -1:
        """The provider takes more or fewer at once from now on."""
        if limit < 1:
            raise ValueError(f"a credit pool's limit must be at least 1: {limit}")
        self.limit = limit
        self._review = True
        self._settle()
        return 0

    cdef int _set_waiting(self, Holder holder, int waiting) except -1:
        if waiting and holder._place < 0:
            self._waiters.add(holder)
        elif not waiting and holder._place >= 0:
            self._waiters.remove(holder)
        self._waiting += waiting - holder.waiting
        holder.waiting = waiting
        return 0

    cdef void _forget_asked(self, Holder holder) noexcept:
        self._asked -= holder._asked
        holder._asked = 0
        if self._probed is holder:
            self._probed = None
            self._review = True

    cdef int _wanted(self, Holder holder) noexcept:
        """What the holder demands: in use + waiting, or the recent peak of use, brought up to this
        turn.
        """
        while holder._peak_turn < self._turn and holder._peak > holder.in_use:
            # Forgotten within about the time that one request takes.
            holder._peak -= (holder._peak + TURNS_A_LIMIT - 1) // TURNS_A_LIMIT
            holder._peak_turn += 1
        if holder._peak_turn < self._turn:
            holder._peak_turn = self._turn
        if holder._peak < holder.in_use:
            holder._peak = holder.in_use
        return max(holder.in_use + holder.waiting, holder._peak)

    cdef void _change(self, Holder holder, int n) noexcept:
        """What the holder holds becomes ``n`` more (fewer if negative)."""
        holder.held += n
        self.granted += n
        if holder._place >= 0:
            self._waiters.changed(holder, n)
        if n > 0 or holder._rank < PROTECTED or holder.held == 0:
            self._ranks.put_by_held(holder)

    cdef void _protect(self, Holder holder) noexcept:
        """Nothing is to be taken from the holder, unless those who wait are far poorer."""
        self._ranks.put(holder, PROTECTED)
        self._unjudged += 1

    cdef void _give(self, Holder holder, int n):
        """Grant ``n`` free credits; told at the end of the settlement."""
        if holder._untold == 0:
            self._told.append(holder)
        holder._untold += n
        holder._granted_turn = self._turn
        if holder.waiting == 0:
            self._change(holder, n)
            return
        self._set_waiting(holder, holder.waiting - n)
        self._change(holder, n)
        # It asked for them, so it is about to use them.
        self._wanted(holder)
        holder._peak = max(holder._peak, holder.held)
        holder._peak_turn = self._turn + TURNS_A_LIMIT
        self._protect(holder)

    cdef void _settle(self):
        """Give what is free to those who wait, the poorest first, or else to whoever is there; ask
        back what is missing.
        """
        cdef Holder holder
        cdef int free = self.limit - self.granted
        cdef int n
        while free > 0 and self._waiters.count:
            holder = <Holder>self._waiters.first()
            # The poorest deserves at least the average.
            n = min(holder.waiting, max(1, free // <int>self._waiters.count))
            free -= n
            self._give(holder, n)
        if free > 0 and self._holders:
            self._place_idle(free)
        self._short = self._waiters.count > 0 or self.granted > self.limit
        if self._told:
            for holder in self._told:
                n = holder._untold
                holder._untold = 0
                holder.grant(n)
            self._told.clear()
        if self._short:
            self._ask_back()

    cdef void _place_idle(self, int free):
        """Grant credits that nobody waits for: to the newcomers, or to those who hold least."""
        cdef Holder holder
        cdef Holder other
        cdef int rank
        cdef bint new = self._ranks.counts[NEW] > 0
        cdef Py_ssize_t portions = self._ranks.counts[NEW] if new else len(self._holders)
        if not new or portions > free:
            # Few large portions rather than many small ones: they are easier to find again.
            portions = min(portions, PORTIONS, free)
        while portions:
            if new:
                holder = <Holder>self._ranks.first(NEW)
            else:
                rank = self._ranks.lowest()
                holder = <Holder>self._ranks.first(rank) if rank >= 0 else None
                for rank in (PROTECTED, BUSY):
                    other = <Holder>self._ranks.first(rank)
                    if other is not None and (holder is None or other.held < holder.held):
                        holder = other
            self._give(holder, free // <int>portions)
            free -= free // <int>portions
            portions -= 1

    cdef void _welcome(self):
        """Ask the largest surplus for half of it: what comes back is a newcomer's."""
        cdef Holder holder, best = None
        cdef int rank, n, most = 1
        cdef int compared = 0
        while compared < COMPARED:
            rank = self._ranks.highest()
            if rank <= 1:
                break
            holder = <Holder>self._ranks.first(rank)
            n = holder.held - self._wanted(holder) - holder._asked
            if n < 1:
                self._set_apart(holder)
                continue
            self._ranks.put(holder, rank)
            compared += 1
            if n > most:
                best = holder
                most = n
            if n >= holder.held // 2:
                break
        if best is not None:
            self._ask(best, most // 2)

    cdef void _set_apart(self, Holder holder) noexcept:
        """The holder has no surplus: it is looked at again when it ends a request, or when those
        who wait are poorer.
        """
        if holder.held - holder.in_use > holder._asked:
            self._protect(holder)
        else:
            self._ranks.put(holder, BUSY)

    cdef void _ask_back(self):
        """Ask for what is missing: the largest surplus first, then those who are richer than the
        poorest who waits.
        """
        cdef Holder holder, poorest
        cdef int frames = ASKED_AT_ONCE
        cdef int n, rank
        cdef int64_t missing = self._waiting - self._asked
        if self.granted > self.limit:
            missing += self.granted - self.limit
        while missing > 0 and frames:
            rank = self._ranks.highest()
            if rank == 0:
                break
            holder = <Holder>self._ranks.first(rank)
            n = holder.held - self._wanted(holder) - holder._asked
            if n < 1:
                self._set_apart(holder)
                continue
            n = <int>min(n, missing)
            missing -= n
            frames -= 1
            # Others of its rank have their turn first the next time.
            self._ranks.put(holder, rank)
            self._ask(holder, n)
        if missing > 0 and frames:
            poorest = <Holder>self._waiters.first()
            self._ask_protected(poorest, missing, frames)

    cdef void _ask_protected(self, Holder poorest, int64_t missing, int frames):
        """Ask those whose demand is met, but who hold more than the poorest who waits. All are
        looked at once a turn, and when the poorest has become much poorer; else those who came
        since.
        """
        cdef Holder holder
        cdef Holder previous
        cdef int held = poorest.held if poorest is not None else 0
        cdef int n
        cdef Py_ssize_t count = min(self._unjudged, self._ranks.counts[PROTECTED])
        if self._review or self._reviewed_turn != self._turn or held * 2 < self._reviewed_held:
            self._review = False
            self._reviewed_turn = self._turn
            self._reviewed_held = held
            count = self._ranks.counts[PROTECTED]
        elif count:
            # These are judged by what the poorest has now, be it more than it had for the others.
            self._reviewed_held = max(self._reviewed_held, held)
        self._unjudged = 0
        holder = <Holder>self._ranks.last(PROTECTED)
        while count:
            count -= 1
            previous = <Holder>holder._previous
            if holder.held - holder.in_use <= holder._asked:
                self._ranks.put(holder, BUSY)
            else:
                n = <int>min(self._may_take(holder, poorest), missing)
                if n > 0:
                    missing -= n
                    frames -= 1
                    self._ask(holder, n)
                    if missing == 0 or frames == 0:
                        # The rest has not been looked at.
                        self._review = True
                        break
            holder = previous

    cdef int _may_take(self, Holder holder, Holder poorest):
        """How many unused credits of a holder the poorest who waits has a better claim to."""
        cdef int held = holder.held - holder._asked
        cdef int unused = held - holder.in_use
        cdef int n = held - self._wanted(holder)
        cdef int64_t sum_held
        cdef int64_t count
        if self.granted > self.limit:
            n = max(n, min(unused, self.granted - self.limit))
        if poorest is None or poorest is holder:
            return n
        if held - poorest.held > 1:
            n = max(n, (held - poorest.held) // 2)
            # More, if there are many who wait as poor.
            sum_held = self._waiters.held
            count = self._waiters.count
            if holder._place < 0:
                sum_held += held
                count += 1
            n = max(n, <int>(held - sum_held // count))
        elif held == 1 and poorest.held == 0 and holder._place < 0 and n < 1:
            # Idle for now, so that the credit is put to better use by the one who waits. What was
            # granted on demand is likely to be used soon: only one such holder is asked at a time.
            if holder._peak_turn <= self._turn + 1:
                n = 1
            elif self._probed is None:
                self._probed = holder
                n = 1
        return min(n, unused)

    cdef void _ask(self, Holder holder, int n):
        holder._asked += n
        self._asked += n
        holder.reclaim(n)

    def statistics(self):
        """A plain dict: limit, granted, in use, holders."""
        return {
            "limit": self.limit,
            "granted": self.granted,
            "in_use": self.in_use,
            "holders": len(self._holders),
        }


cdef class RecordingHolder(Holder):
    """A holder that keeps what it was told, for tests of the pool."""

    cdef readonly int told_granted
    cdef readonly int told_reclaim
    # How many words, whatever they said.
    cdef readonly int grants
    cdef readonly int reclaims

    cdef void grant(self, int n):
        self.told_granted += n
        self.grants += 1

    cdef void reclaim(self, int n):
        self.told_reclaim += n
        self.reclaims += 1

    def begin(self):
        """Start a request; False without credit."""
        return self.pool.began(self)

    def end(self, CreditPool pool not None):
        """End a request; returns the credits that come back with the reply."""
        return pool.done(self)
