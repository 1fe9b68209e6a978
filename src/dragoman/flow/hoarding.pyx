"""Callers that demand more than they use: who is believed, and how much.

A caller must give back what it does not use while others wait. What it knew to be unused when it
answered a reclaim, and kept although that much was asked for, is proof that it does not (``kept``):
its whole source is doubted from then on. One that demands, and gives back most of what it is
granted when asked, is granted no more at once than twice what it used; one that used nothing is
granted one credit, after all others. That doubles as it is used.
"""

from dragoman.flow.ranks cimport Account
from dragoman.flow.shares cimport Holder, Shares

# So many sources are remembered that have broken faith.
cdef int DOUBTED_SOURCES = 1024


cdef int kept(Shares shares, Holder holder, int n):
    """How many credits the holder keeps for certain if it answers a reclaim with ``n``: unused,
    known to it when it answered, and asked for.
    """
    if holder.pool is not shares or holder._asked <= n:
        return 0
    return max(0, min(holder.held - holder.in_use - holder._fresh, holder._asked) - n)


cdef void doubt(Shares shares, Holder holder):
    """The holder has broken faith: no caller of its source is believed at once."""
    cdef Account source = None if holder.account is None else <Account>holder.account.account
    if source is None:
        return
    shares._doubted_sources.pop(source.key, None)
    shares._doubted_sources[source.key] = True
    if len(shares._doubted_sources) > DOUBTED_SOURCES:
        del shares._doubted_sources[next(iter(shares._doubted_sources))]


cdef int judge(Shares shares, Holder holder) except -1:
    """The holder has given back what it demanded, or some of it: it is believed twice what it
    used. One that used nothing is served after the others.
    """
    if holder._used == 0:
        if not holder._said:
            # What it demanded before it was granted these is no more.
            holder._wants = 0
        holder.wasted += 1
        _rate(shares, holder, 1, True)
    elif holder._used * 2 < holder._demanded:
        _rate(shares, holder, <int>holder._used * 2, False)
    holder._demanded = 0
    holder._used = 0
    return 0


cdef void believe(Shares shares, Holder holder):
    """The holder uses what it has: it is granted twice as much at once from now on."""
    holder.wasted = 0
    holder._used = 0
    _rate(shares, holder, 0 if holder._line > shares.limit // 2 else holder._line * 2, False)


cdef int _rate(Shares shares, Holder holder, int line, bint doubted) except -1:
    cdef int waiting = holder._wants
    if holder.doubted != doubted:
        shares.set_waiting(holder, 0)
        holder.doubted = doubted
    holder._line = line
    return shares.set_waiting(holder, waiting)
