"""Asking credits back: from the largest surplus first, and from no more holders than it takes.

``flow.credits`` calls this while somebody waits, or more is out than the limit. Reclaims are paced:
a holder owes one answer at most, and is asked few times a turn. Holders that are idle, and those
whose credits are all in use, are not looked at (see ``flow.ranks``).
"""

from libc.stdint cimport int64_t

from dragoman.flow.ranks cimport BUSY, PROTECTED, Poorest, Ranked
from dragoman.flow.shares cimport Holder, Shares

# So many holders are asked in one go; when they answer, the next.
cdef int ASKED_AT_ONCE = 64
# So many are compared for a newcomer's share.
cdef int COMPARED = 8
# So often a holder is asked in one turn.
cdef int ASKS_A_TURN = 16


cdef void welcome(Shares shares):
    """Ask the largest surplus for half of it: what comes back is a newcomer's."""
    cdef Holder holder, best = None
    cdef int rank, n, most = 1
    cdef int compared = 0
    while compared < COMPARED:
        rank = shares._ranks.highest()
        if rank <= 1:
            break
        holder = <Holder>shares._ranks.first(rank)
        n = holder.held - shares.wanted(holder)
        if n < 1 or not _may_ask(shares, holder):
            _set_apart(shares, holder)
            continue
        shares._ranks.put(holder, rank)
        compared += 1
        if n > most:
            best = holder
            most = n
        if n >= holder.held // 2:
            break
    if best is not None:
        _ask(shares, best, most // 2)


cdef void ask_back(Shares shares):
    """Ask for what is missing: the largest surplus first, then those who are richer than the
    poorest who waits.
    """
    cdef Holder holder, poorest
    cdef int frames = ASKED_AT_ONCE
    cdef int n, rank
    cdef int64_t missing = shares._waiting - shares._asked
    if shares.granted > shares.limit:
        missing += shares.granted - shares.limit
    while missing > 0 and frames:
        rank = shares._ranks.highest()
        if rank == 0:
            break
        holder = <Holder>shares._ranks.first(rank)
        n = holder.held - shares.wanted(holder)
        if n < 1 or not _may_ask(shares, holder):
            _set_apart(shares, holder)
            continue
        n = <int>min(n, missing)
        missing -= n
        frames -= 1
        # Others of its rank have their turn first the next time.
        shares._ranks.put(holder, rank)
        _ask(shares, holder, n)
    if missing > 0 and frames:
        poorest = shares.poorest()
        _ask_protected(shares, poorest, missing, frames)


cdef void _ask_protected(Shares shares, Holder poorest, int64_t missing, int frames):
    """Ask those whose demand is met, but who hold more than the poorest who waits. All are
    looked at once a turn, and when the poorest has become much poorer; else those who came
    since.
    """
    cdef Holder holder
    cdef Holder previous
    cdef int held = poorest.held if poorest is not None else 0
    cdef int n
    cdef Py_ssize_t count = min(shares._unjudged, shares._ranks.counts[PROTECTED])
    if shares._review or shares._reviewed_turn != shares._turn or held * 2 < shares._reviewed_held:
        shares._review = False
        shares._reviewed_turn = shares._turn
        shares._reviewed_held = held
        count = shares._ranks.counts[PROTECTED]
    elif count:
        # These are judged by what the poorest has now, be it more than it had for the others.
        shares._reviewed_held = max(shares._reviewed_held, held)
    shares._unjudged = 0
    holder = <Holder>shares._ranks.last(PROTECTED)
    while count:
        count -= 1
        previous = <Holder>holder._previous
        if holder.held - holder.in_use <= holder._asked:
            shares._ranks.put(holder, BUSY)
        elif _may_ask(shares, holder):
            n = <int>min(_may_take(shares, holder, poorest), missing)
            if n > 0:
                missing -= n
                frames -= 1
                _ask(shares, holder, n)
                if missing == 0 or frames == 0:
                    # The rest has not been looked at.
                    shares._review = True
                    break
        holder = previous


cdef int _may_take(Shares shares, Holder holder, Holder poorest):
    """How many unused credits of a holder the poorest who waits has a better claim to."""
    cdef int held = holder.held
    cdef int unused = held - holder.in_use
    cdef int n = held - shares.wanted(holder)
    cdef int richer
    cdef int least
    cdef int64_t sum_held
    cdef int64_t count
    cdef Ranked mine
    cdef Ranked theirs
    cdef Poorest line
    if shares.granted > shares.limit:
        n = max(n, min(unused, shares.granted - shares.limit))
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
        line = shares._doubtful if poorest._aside else shares.line_of(theirs)
        sum_held = line.held
        count = line.count
        if mine._place < 0:
            sum_held += held
            count += 1
        n = max(n, <int>(held - sum_held // count))
    elif held == 1 and least == 0 and holder._place < 0 and n < 1:
        # Idle for now, so that the credit is put to better use by the one who waits. What was
        # granted on demand is likely to be used soon: only one such holder is asked at a time.
        if holder._peak_turn <= shares._turn + 1:
            n = 1
        elif shares._probed is None:
            shares._probed = holder
            n = 1
    return min(n, unused)


cdef void _set_apart(Shares shares, Holder holder) noexcept:
    """The holder has no surplus: it is looked at again when it ends a request, or when those
    who wait are poorer.
    """
    if holder.held - holder.in_use > holder._asked:
        shares.protect(holder)
    else:
        shares._ranks.put(holder, BUSY)


cdef bint _may_ask(Shares shares, Holder holder) noexcept:
    """Whether the holder owes no answer, and was not asked too often in this turn."""
    return holder._asked == 0 and (
        holder._asks_turn != shares._turn or holder._asks < ASKS_A_TURN
    )


cdef void _ask(Shares shares, Holder holder, int n):
    holder._asked += n
    holder._fresh = 0
    if holder._asks_turn != shares._turn:
        holder._asks_turn = shares._turn
        holder._asks = 0
    holder._asks += 1
    if not holder._listed:
        holder._listed = True
        shares._asked_holders.append(holder)
    shares._asked += n
    holder.reclaim(n)


cdef void forget_asked(Shares shares, Holder holder) noexcept:
    shares._asked -= holder._asked
    holder._asked = 0
    holder._overdue = 0
    if shares._probed is holder:
        shares._probed = None
        shares._review = True
