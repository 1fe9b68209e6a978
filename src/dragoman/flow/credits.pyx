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

Shares go by account (``flow.shares``), since whoever may connect once may do so a hundred times,
under any name. How credits are asked back is in ``flow.reclaim``, and who is granted less for not
using them in ``flow.hoarding``.

``review`` is called from time to time while somebody waits, so that peaks are forgotten and
reclaims go on although no request ends.

What an event costs depends on those who wait, or have credits that somebody needs.

Invariant: ``granted == sum(held) + orphaned <= max(limit, what was out when the limit was
lowered)``, and for each holder ``0 <= in_use <= held``; all of the limit is granted while there is
a holder.
"""

from libc.stdint cimport int64_t

from dragoman.flow.hoarding cimport believe, doubt, judge, kept
from dragoman.flow.ranks cimport BUSY, NEW, PROTECTED, Account, Poorest, Ranked
from dragoman.flow.reclaim cimport ask_back, forget_asked, welcome
from dragoman.flow.shares cimport TURNS_A_LIMIT, Holder, Shares

# Among so few holders free credits are divided when nobody waits for them.
cdef int PORTIONS = 8
# After so many reviews without an answer a holder is told that it owes one.
cdef int OVERDUE_REVIEWS = 12


cdef class CreditPool(Shares):
    """The credits of one provider. ``limit`` is how many requests it takes at once."""

    cpdef Account account(self, str source, bytes identity):
        """The account of the peer that says it is ``identity`` and comes from ``source``."""
        cdef Account of_source = self._accounts.get(source)
        cdef Account of_peer
        if of_source is None:
            of_source = self._accounts[source] = Account(source, None)
        key = (source, identity)
        of_peer = self._accounts.get(key)
        if of_peer is None:
            of_peer = self._accounts[key] = Account(key, of_source)
            of_source.members += 1
        return of_peer

    cpdef int join(self, Holder holder, Account account=None) except -1:
        """A caller has connected: it gets its share of what nobody demands. ``account`` is the
        peer's whose caller it is; without one it is its own. ValueError if it is already in a pool.
        """
        if holder.pool is not None:
            raise ValueError("the holder is already in a pool")
        holder.pool = self
        holder.held = 0
        holder.in_use = 0
        holder.waiting = 0
        holder._asked = 0
        holder._fresh = 0
        holder._demanded = 0
        holder._used = 0
        holder._line = 0
        holder._wants = 0
        holder.wasted = 0
        holder.doubted = False
        holder._overdue = 0
        holder.account = account
        if account is not None:
            account.members += 1
            holder.doubted = account.account is not None \
                and (<Account>account.account).key in self._doubted_sources
            holder._line = holder.doubted
        holder._peak = 0
        holder._peak_turn = self._turn
        holder._granted_turn = self._turn
        self._holders.add(holder)
        self._ranks.put(holder, NEW)
        if self.granted < self.limit:
            self._settle()
        elif not self._short:
            welcome(self)
        return 0

    cpdef int leave(self, Holder holder) except -1:
        """A caller is gone; its unused credits are free at once, those in use when their work ends.
        """
        if holder.pool is not self:
            return 0
        self.set_waiting(holder, 0)
        forget_asked(self, holder)
        self._ranks.remove(holder)
        self._holders.discard(holder)
        holder.pool = None
        self.granted -= holder.held - holder.in_use
        self.orphaned += holder.in_use
        self._leave_account(holder)
        holder.held = 0
        self._settle()
        return 0

    def _leave_account(self, Holder holder):
        cdef Account account = <Account>holder.account
        cdef Ranked node = account
        while node is not None:
            # Orphaned credits are nobody's.
            node.held -= holder.held
            if node._place >= 0:
                self.line_of(node).changed(node, -holder.held)
            node = node.account
        holder.account = None
        while account is not None:
            account.members -= 1
            if account.members:
                break
            self._accounts.pop(account.key, None)
            account = <Account>account.account

    cdef bint began(self, Holder holder) noexcept:
        """A request of this holder starts. False when it had no credit for it: a violation."""
        if holder.in_use >= holder.held:
            return False
        holder.in_use += 1
        self.in_use += 1
        holder._used += 1
        if holder._line and holder._used >= holder._line:
            believe(self, holder)
        if holder._peak_turn < self._turn:
            self.wanted(holder)
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
        holder._fresh += 1
        return 1

    cdef int _done_short(self, Holder holder):
        """The same while somebody waits: does the credit go back, or to somebody poorer?"""
        cdef bint turned = False
        cdef bint back = True
        cdef Ranked first = None
        self._ended += 1
        if <int64_t>self._ended * TURNS_A_LIMIT >= self.limit:
            self._ended = 0
            self._turn += 1
            turned = True
        if self.granted > self.limit:
            back = False
        elif self._favour and self._doubtful.count:
            back = holder._aside
        else:
            # Poorer sources come first, then its source's poorer peers, then its peer's callers.
            first = self._poorer(holder.account, holder)
            if first is None:
                first = self._poorer_than(holder, holder)
            back = first is None
            if back and holder.held > self.wanted(holder):
                back = self.poorest() is holder
        if not back:
            self.change(holder, -1)
            if first is not None:
                while isinstance(first, Account):
                    first = (<Account>first).waiters.first()
                self._give(<Holder>first, 1)
            self._settle()
            return 0
        if holder._rank == BUSY:
            self.protect(holder)
        if turned:
            ask_back(self)
        # After what was asked, as the caller hears it.
        holder._fresh += 1
        return 1

    cdef Ranked _poorer(self, Ranked node, Holder holder):
        """The one that waits beside an account of ``holder``, from ``node`` up, and deserves a
        credit more than it does, the highest first; None if nobody does.
        """
        cdef Ranked found
        if node is None:
            return None
        found = self._poorer(node.account, holder)
        return found if found is not None else self._poorer_than(node, holder)

    cdef Ranked _poorer_than(self, Ranked node, Holder holder):
        cdef Poorest line = self.line_of(node)
        cdef Ranked first
        cdef int richer
        if line.count == 0 and node.account is None:
            line = self._doubtful
        first = line.first()
        if first is None or first is node:
            return None
        richer = node.held - first.held
        # An odd credit stays for a turn, unless the other has nothing at all.
        if richer > 1 or richer == 1 and (
            first.held == 0 or holder._granted_turn != self._turn
        ):
            return first
        return None

    cpdef int returned(self, Holder holder, int n) except -1:
        """The caller gives ``n`` unused credits back; -1 is raised as ValueError if it has fewer.
        """
        if n < 0 or n > holder.held - holder.in_use:
            raise ValueError(f"{n} credits given back, {holder.held - holder.in_use} were unused")
        if holder.pool is not self:
            return 0
        forget_asked(self, holder)
        if n:
            self.change(holder, -n)
            if holder._demanded:
                judge(self, holder)
            # It has room in its line again for what it demanded before.
            self.set_waiting(holder, holder._wants)
        if holder._rank >= PROTECTED:
            self._ranks.put_by_held(holder)
        self._settle()
        return 0

    cpdef int demand(self, Holder holder, int waiting) except -1:
        """The caller has ``waiting`` requests that it cannot send for want of credit."""
        if holder.pool is not self:
            return 0
        if holder._rank == PROTECTED and waiting < holder.waiting:
            self.protect(holder)
        holder._said = waiting > 0
        # Whatever it says, more than the limit it cannot have.
        self.set_waiting(holder, min(max(waiting, 0), self.limit))
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

    cpdef int review(self) except -1:
        """Some time has passed; called again and again while somebody waits (``short``)."""
        cdef Holder holder
        cdef list asked = self._asked_holders
        if self._turn == self._reviewed_at:
            self._turn += 1
            self._ended = 0
        self._reviewed_at = self._turn
        self._favour = self._doubtful.count > 0
        self._settle()
        self._asked_holders = []
        for holder in asked:
            if holder._asked and holder.pool is self:
                self._asked_holders.append(holder)
                holder._overdue += 1
                if holder._overdue >= OVERDUE_REVIEWS:
                    holder.overdue(holder._overdue)
            else:
                holder._listed = False
        return 0

    cpdef int kept(self, Holder holder, int n):
        """How many credits the holder keeps for certain if it answers a reclaim with ``n``."""
        return kept(self, holder, n)

    cdef void doubt(self, Holder holder):
        """The holder has broken faith: no caller of its source is believed at once."""
        doubt(self, holder)

    cdef void _give(self, Holder holder, int n):
        """Grant ``n`` free credits; told at the end of the settlement."""
        if holder._untold == 0:
            self._told.append(holder)
        holder._untold += n
        holder._fresh += n
        holder._granted_turn = self._turn
        if holder.waiting == 0:
            self.change(holder, n)
            return
        self.change(holder, n)
        self.set_waiting(holder, max(0, holder._wants - n))
        holder._said = False
        # It asked for them, so it is about to use them.
        if holder._demanded == 0:
            holder._used = 0
        holder._demanded += n
        self.wanted(holder)
        holder._peak = max(holder._peak, holder.held)
        holder._peak_turn = self._turn + TURNS_A_LIMIT
        self.protect(holder)

    cdef void _settle(self):
        """Give what is free to those who wait, the poorest first, or else to whoever is there; ask
        back what is missing.
        """
        cdef Holder holder
        cdef int free = self.limit - self.granted
        cdef Ranked node
        cdef Py_ssize_t parts
        cdef int n
        if free > 0 and self._favour and self._doubtful.count:
            self._favour = False
            free -= 1
            self._give(<Holder>self._doubtful.first(), 1)
        while free > 0 and self._waiters.count:
            holder = self.poorest()
            # The poorest deserves at least the average.
            parts = 1
            node = holder
            while node is not None:
                parts *= self.line_of(node).count
                node = node.account
            n = min(holder.waiting, <int>max(1, free // parts))
            free -= n
            self._give(holder, n)
        while free > 0 and self._doubtful.count:
            free -= 1
            self._give(<Holder>self._doubtful.first(), 1)
        if free > 0 and self._holders:
            self._place_idle(free)
        self._short = (
            self._waiters.count > 0 or self._doubtful.count > 0 or self.granted > self.limit
        )
        if self._told:
            for holder in self._told:
                n = holder._untold
                holder._untold = 0
                holder.grant(n)
            self._told.clear()
        if self._short:
            ask_back(self)

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

    @property
    def accounts(self):
        """How many accounts of peers and sources there are."""
        return len(self._accounts)

    @property
    def short(self):
        """Whether somebody waits, or more is out than the limit."""
        return self._short

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
        return (<CreditPool>self.pool).began(self)

    def end(self, CreditPool pool not None):
        """End a request; returns the credits that come back with the reply."""
        return pool.done(self)
