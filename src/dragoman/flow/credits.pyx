"""Credits: the right to have one request at a provider, granted to its callers and shared by
demand.

A pool stands beside one provider and knows its limit. Each connected caller is a holder; the sum of
all credits out never exceeds the limit, so the provider never has to reject. A credit in use comes
back with the reply, without a frame of its own; the pool withholds it there when the holder has
more than its share, and grants it to another. Shares are max-min fair over demand (in use +
waiting, or the recent peak of use if that is more); what nobody demands is spread evenly, so that
an idle caller can start at once. Where a share is not a whole number the odd credits go round, so
that nobody starves when there are more callers than credits. While somebody lacks credit the shares
follow the demand without being told: they are computed anew as requests end. Knows nothing of
protocols: a holder's ``grant`` and ``reclaim`` carry the words to the peer.

Invariant: ``granted == sum(held) + orphaned <= max(limit, what was out when the limit was
lowered)``, and for each holder ``0 <= in_use <= held``.
"""

# While somebody lacks credit, shares are computed anew this many times in a limit's worth of
# requests.
cdef int ENDS_A_LIMIT = 8


cdef class Holder:
    """One caller's account. Subclasses carry ``grant`` and ``reclaim`` to the caller."""

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
        self.granted = 0
        self.orphaned = 0
        self._holders = []
        self._tight = False

    cpdef int join(self, Holder holder) except -1:
        """A caller has connected: it gets its share."""
        holder.pool = self
        holder.held = 0
        holder.in_use = 0
        holder.waiting = 0
        holder._asked = 0
        holder._passed_over = 0
        holder._peak = 0
        self._holders.append(holder)
        self._share_out(False)
        self._spread(True)
        return 0

    cpdef int leave(self, Holder holder) except -1:
        """A caller is gone; its unused credits are free at once, those in use when their work ends.
        """
        if holder.pool is None:
            return 0
        self._holders.remove(holder)
        holder.pool = None
        self.granted -= holder.held - holder.in_use
        self.orphaned += holder.in_use
        holder.held = 0
        holder.waiting = 0
        self._share_out(False)
        self._spread(False)
        return 0

    cdef bint began(self, Holder holder) noexcept:
        """A request of this holder starts. False when it had no credit for it: a violation."""
        if holder.in_use >= holder.held:
            return False
        holder.in_use += 1
        if holder.in_use > holder._peak:
            holder._peak = holder.in_use
        return True

    cdef int done(self, Holder holder):
        """A request of this holder has ended. How many credits (0 or 1) go back with the reply."""
        cdef int back
        if holder.pool is None:
            holder.in_use -= 1
            self.orphaned -= 1
            self.granted -= 1
            self._share_out(False)
            self._spread(False)
            return 0
        holder.in_use -= 1
        if not self._tight and not self._contended:
            return 1
        self._ended += 1
        if self._ended * ENDS_A_LIMIT >= self.limit:
            self._share_out(True)
        elif holder.held <= holder._target and self.granted <= self.limit:
            return 1
        back = 1
        if holder.held > holder._target or self.granted > self.limit:
            back = 0
            holder.held -= 1
            self.granted -= 1
        self._spread(False)
        return back

    cpdef int returned(self, Holder holder, int n) except -1:
        """The caller gives ``n`` unused credits back; -1 is raised as ValueError if it has fewer.
        """
        if n < 0 or n > holder.held - holder.in_use:
            raise ValueError(f"{n} credits given back, {holder.held - holder.in_use} were unused")
        holder.held -= n
        self.granted -= n
        holder._asked = 0
        self._spread(False)
        return 0

    cpdef int demand(self, Holder holder, int waiting) except -1:
        """The caller has ``waiting`` requests that it cannot send for want of credit."""
        holder.waiting = waiting
        self._share_out(False)
        self._spread(False)
        return 0

    cpdef int set_limit(self, int limit) except -1:
        """The provider takes more or fewer at once from now on."""
        if limit < 1:
            raise ValueError(f"a credit pool's limit must be at least 1: {limit}")
        self.limit = limit
        self._share_out(False)
        self._spread(False)
        return 0

    cdef void _share_out(self, bint passing):
        """Compute everybody's share. ``passing``: credits change hands now, so the odd ones go on.
        """
        cdef Holder holder
        cdef int left = self.limit - self.orphaned
        cdef int count = len(self._holders)
        cdef int share
        cdef Py_ssize_t i = 0, k
        self._ended = 0
        if left < 0:
            left = 0
        for holder in self._holders:
            holder._wanted = max(holder.in_use + holder.waiting, holder._peak)
            if passing:
                # Forgotten within about the time that one request takes.
                holder._peak -= (holder._peak + ENDS_A_LIMIT - 1) // ENDS_A_LIMIT
                if holder._peak < holder.in_use:
                    holder._peak = holder.in_use
        # Water-filling: the smallest demands first, until one exceeds an equal share of what is
        # left.
        order = sorted(self._holders, key=_wanted)
        while i < count:
            holder = order[i]
            if holder._wanted > left // (count - <int>i):
                break
            holder._target = holder._wanted
            left -= holder._wanted
            i += 1
        self._contended = i < count
        if not self._contended:
            # What nobody demands is spread evenly.
            for i in range(count):
                holder = order[i]
                share = left // (count - <int>i)
                holder._target += share
                left -= share
            return
        # Between two turns the odd credits stay where they are.
        hungry = sorted(order[i:], key=_turns_missed if passing else _held, reverse=True)
        count -= <int>i
        share = left // count
        left -= share * count
        for k in range(count):
            holder = hungry[k]
            holder._target = share + (1 if k < left else 0)
            if passing:
                # A turn counts when it is had, not when it is planned.
                holder._passed_over = 0 if holder.held > share else holder._passed_over + 1

    cdef void _spread(self, bint level):
        """Grant free credits up to each share, first to those who wait; where none are free for
        those who wait, ask back from those above their share. ``level``: also for those who do not
        wait.
        """
        cdef Holder holder
        cdef int free = self.limit - self.granted
        cdef int n, missing = 0
        for holder in self._holders:
            if holder.waiting:
                free -= self._grant(holder, min(free, holder.waiting))
        for holder in self._holders:
            free -= self._grant(holder, free)
            n = holder._target - holder.held
            if not level:
                n = min(n, holder.waiting)
            if n > 0:
                missing += n
        if free < 0:
            missing -= free
        self._tight = missing > 0
        if not self._tight:
            return
        for holder in self._holders:
            missing -= holder._asked
        for holder in self._holders:
            n = min(holder.held - holder._target, holder.held - holder.in_use) - holder._asked
            n = min(n, missing)
            if n > 0:
                missing -= n
                holder._asked += n
                holder.reclaim(n)

    cdef int _grant(self, Holder holder, int n):
        """Grant up to ``n`` credits within the holder's share; how many."""
        n = min(n, holder._target - holder.held)
        if n <= 0:
            return 0
        holder.held += n
        self.granted += n
        holder.waiting = max(0, holder.waiting - n)
        holder.grant(n)
        return n

    def statistics(self):
        """A plain dict: limit, granted, in use, holders."""
        return {
            "limit": self.limit,
            "granted": self.granted,
            "in_use": self.orphaned + sum(holder.in_use for holder in self._holders),
            "holders": len(self._holders),
        }


def _wanted(Holder holder):
    return holder._wanted


def _held(Holder holder):
    return holder.held


def _turns_missed(Holder holder):
    return holder._passed_over


cdef class RecordingHolder(Holder):
    """A holder that keeps what it was told, for tests of the pool."""

    cdef readonly int told_granted
    cdef readonly int told_reclaim

    cdef void grant(self, int n):
        self.told_granted += n

    cdef void reclaim(self, int n):
        self.told_reclaim += n

    def begin(self):
        """Start a request; False without credit."""
        return self.pool.began(self)

    def end(self, CreditPool pool not None):
        """End a request; returns the credits that come back with the reply."""
        return pool.done(self)
