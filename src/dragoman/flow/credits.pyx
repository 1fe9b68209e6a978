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

Shares go by account, not by holder: the holders of one peer share what the peer gets, and the peers
of one source (the address they come from) what the source gets, since whoever may connect once may
do so a hundred times, under any name.

A caller must give back what it does not use while others wait. What it knew to be unused when it
answered a reclaim, and kept although that much was asked for, is proof that it does not (``kept``).
Who demands, and gives back most of what it is granted when asked, is granted no more at once than
twice what it used, and who used nothing one credit, after all others; that doubles as it is used.
``review`` is called from time to time while somebody waits, so that peaks are forgotten and
reclaims go on although no request ends. Reclaims are paced: a holder owes one answer at most, and
is asked few times a turn.

What an event costs depends on those who wait, or have credits that somebody needs; holders that are
idle, and those whose credits are all in use, are not looked at (see ``flow.ranks``).

Invariant: ``granted == sum(held) + orphaned <= max(limit, what was out when the limit was
lowered)``, and for each holder ``0 <= in_use <= held``; all of the limit is granted while there is
a holder.
"""

from dragoman.flow.ranks cimport BUSY, NEW, PROTECTED, Account, Poorest, Ranked, Ranks

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
# So often a holder is asked in one turn.
cdef int ASKS_A_TURN = 16
# After so many reviews without an answer a holder is told that it owes one.
cdef int OVERDUE_REVIEWS = 12
# So many sources are remembered that have broken faith.
cdef int DOUBTED_SOURCES = 1024


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


cdef class CreditPool:
    """The credits of one provider. ``limit`` is how many requests it takes at once."""

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
                self._line_of(node).changed(node, -holder.held)
            node = node.account
        holder.account = None
        while account is not None:
            account.members -= 1
            if account.members:
                break
            self._accounts.pop(account.key, None)
            account = <Account>account.account

    cdef Poorest _line_of(self, Ranked node):
        """Where it waits, if it does."""
        if node.account is None:
            return self._waiters
        return (<Account>node.account).waiters

    cdef bint began(self, Holder holder) noexcept:
        """A request of this holder starts. False when it had no credit for it: a violation."""
        if holder.in_use >= holder.held:
            return False
        holder.in_use += 1
        self.in_use += 1
        holder._used += 1
        if holder._line and holder._used >= holder._line:
            self._believe(holder)
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
            if back and holder.held > self._wanted(holder):
                back = self._poorest() is holder
        if not back:
            self._change(holder, -1)
            if first is not None:
                while isinstance(first, Account):
                    first = (<Account>first).waiters.first()
                self._give(<Holder>first, 1)
            self._settle()
            return 0
        if holder._rank == BUSY:
            self._protect(holder)
        if turned:
            self._ask_back()
        # After what was asked, as the caller hears it.
        holder._fresh += 1
        return 1

    cdef Ranked _poorer(self, Ranked node, Holder holder):
        """Who waits beside one of the accounts of ``holder``, from ``node`` up, and deserves a
        credit more than it does, the highest first; None if nobody does.
        """
        cdef Ranked found
        if node is None:
            return None
        found = self._poorer(node.account, holder)
        return found if found is not None else self._poorer_than(node, holder)

    cdef Ranked _poorer_than(self, Ranked node, Holder holder):
        cdef Poorest line = self._line_of(node)
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

    cpdef int kept(self, Holder holder, int n):
        """How many credits the holder keeps for certain if it answers a reclaim with ``n``: unused,
        known to it when it answered, and asked for.
        """
        if holder.pool is not self or holder._asked <= n:
            return 0
        return max(0, min(holder.held - holder.in_use - holder._fresh, holder._asked) - n)

    cdef void doubt(self, Holder holder):
        """The holder has broken faith: who comes from where it does is not believed at once."""
        cdef Account source = None if holder.account is None else <Account>holder.account.account
        if source is None:
            return
        self._doubted_sources.pop(source.key, None)
        self._doubted_sources[source.key] = True
        if len(self._doubted_sources) > DOUBTED_SOURCES:
            del self._doubted_sources[next(iter(self._doubted_sources))]

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

    @property
    def accounts(self):
        """How many accounts of peers and sources there are."""
        return len(self._accounts)

    @property
    def short(self):
        """Whether somebody waits, or more is out than the limit."""
        return self._short

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
            if holder._demanded:
                self._judge(holder)
            # It has room in its line again for what it demanded before.
            self._set_waiting(holder, holder._wants)
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
        holder._said = waiting > 0
        # Whatever it says, more than the limit it cannot have.
        self._set_waiting(holder, min(max(waiting, 0), self.limit))
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
            self._line_of(node).add(node)
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
            line = self._line_of(node)
            line.remove(node)
            if line.count:
                return
            node = node.account

    cdef Holder _poorest(self):
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

    cdef int _judge(self, Holder holder) except -1:
        """The holder has given back what it demanded, or some of it: it is believed twice what it
        used. Who used nothing is served after the others.
        """
        if holder._used == 0:
            if not holder._said:
                # What it demanded before it was granted these is no more.
                holder._wants = 0
            holder.wasted += 1
            self._rate(holder, 1, True)
        elif holder._used * 2 < holder._demanded:
            self._rate(holder, <int>holder._used * 2, False)
        holder._demanded = 0
        holder._used = 0
        return 0

    cdef void _believe(self, Holder holder):
        """The holder uses what it has: it is granted twice as much at once from now on."""
        holder.wasted = 0
        holder._used = 0
        self._rate(holder, 0 if holder._line > self.limit // 2 else holder._line * 2, False)

    cdef int _rate(self, Holder holder, int line, bint doubted) except -1:
        cdef int waiting = holder._wants
        if holder.doubted != doubted:
            self._set_waiting(holder, 0)
            holder.doubted = doubted
        holder._line = line
        return self._set_waiting(holder, waiting)

    cdef bint _may_ask(self, Holder holder) noexcept:
        """Whether the holder owes no answer, and was not asked too often in this turn."""
        return holder._asked == 0 and (
            holder._asks_turn != self._turn or holder._asks < ASKS_A_TURN
        )

    cdef void _forget_asked(self, Holder holder) noexcept:
        self._asked -= holder._asked
        holder._asked = 0
        holder._overdue = 0
        if self._probed is holder:
            self._probed = None
            self._review = True

    cdef int _wanted(self, Holder holder) noexcept:
        """What the holder demands: in use + waiting, or the recent peak of use, brought up to this
        turn.
        """
        cdef int waiting = holder.waiting
        if waiting and holder.held > holder.in_use \
                and holder._granted_turn + TURNS_A_LIMIT < self._turn:
            # Who has unused ones for so long has nothing that waits for them.
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

    cdef void _change(self, Holder holder, int n) noexcept:
        """What the holder holds becomes ``n`` more (fewer if negative)."""
        cdef Ranked node = holder
        self.granted += n
        while node is not None:
            node.held += n
            if node._place >= 0:
                if node is holder and holder._aside:
                    self._doubtful.changed(node, n)
                else:
                    self._line_of(node).changed(node, n)
            node = node.account
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
        holder._fresh += n
        holder._granted_turn = self._turn
        if holder.waiting == 0:
            self._change(holder, n)
            return
        self._change(holder, n)
        self._set_waiting(holder, max(0, holder._wants - n))
        holder._said = False
        # It asked for them, so it is about to use them.
        if holder._demanded == 0:
            holder._used = 0
        holder._demanded += n
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
        cdef Ranked node
        cdef Py_ssize_t parts
        cdef int n
        if free > 0 and self._favour and self._doubtful.count:
            self._favour = False
            free -= 1
            self._give(<Holder>self._doubtful.first(), 1)
        while free > 0 and self._waiters.count:
            holder = self._poorest()
            # The poorest deserves at least the average.
            parts = 1
            node = holder
            while node is not None:
                parts *= self._line_of(node).count
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
            n = holder.held - self._wanted(holder)
            if n < 1 or not self._may_ask(holder):
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
            n = holder.held - self._wanted(holder)
            if n < 1 or not self._may_ask(holder):
                self._set_apart(holder)
                continue
            n = <int>min(n, missing)
            missing -= n
            frames -= 1
            # Others of its rank have their turn first the next time.
            self._ranks.put(holder, rank)
            self._ask(holder, n)
        if missing > 0 and frames:
            poorest = self._poorest()
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
            elif self._may_ask(holder):
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
        cdef int held = holder.held
        cdef int unused = held - holder.in_use
        cdef int n = held - self._wanted(holder)
        cdef int richer
        cdef int least
        cdef int64_t sum_held
        cdef int64_t count
        cdef Ranked mine
        cdef Ranked theirs
        cdef Poorest line
        if self.granted > self.limit:
            n = max(n, min(unused, self.granted - self.limit))
        if poorest is None or poorest is holder:
            return n
        mine = holder
        theirs = poorest
        while mine.account is not theirs.account:
            if mine.account is not None:
                mine = mine.account
            if theirs.account is not None:
                theirs = theirs.account
        held = mine.held
        least = theirs.held
        richer = held - least
        if richer > 1:
            n = max(n, richer // 2)
            # More, if there are many who wait as poor.
            line = self._doubtful if poorest._aside else self._line_of(theirs)
            sum_held = line.held
            count = line.count
            if mine._place < 0:
                sum_held += held
                count += 1
            n = max(n, <int>(held - sum_held // count))
        elif held == 1 and least == 0 and holder._place < 0 and n < 1:
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
        holder._fresh = 0
        if holder._asks_turn != self._turn:
            holder._asks_turn = self._turn
            holder._asks = 0
        holder._asks += 1
        if not holder._listed:
            holder._listed = True
            self._asked_holders.append(holder)
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
