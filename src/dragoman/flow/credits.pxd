from libc.stdint cimport int64_t

from dragoman.flow.ranks cimport Account, Poorest, Ranked, Ranks


cdef class Holder(Ranked):
    cdef CreditPool pool
    cdef readonly int in_use
    cdef readonly int waiting
    cdef int _asked
    # The recent peak of use, as of turn ``_peak_turn``; before a turn in the future it stays.
    cdef int _peak
    cdef int64_t _peak_turn
    # The turn in which it was granted something last.
    cdef int64_t _granted_turn
    # Granted in the current settlement, not told yet.
    cdef int _untold
    # Credits that have become its own, or unused, since it was asked last: it may not have known of
    # them when it answered.
    cdef int64_t _fresh
    # Granted on demand, and requests begun, since it last gave credits back.
    cdef int64_t _demanded
    cdef int64_t _used
    # So many unused credits it is granted at most; 0: no bound.
    cdef int _line
    # What it demanded, and was not granted since: ``waiting`` without the bound.
    cdef int _wants
    # Whether it has demanded since it was granted something on demand.
    cdef bint _said
    # How often in a row it gave back what it had demanded, and had used none of it.
    cdef readonly int wasted
    # It has demanded what it did not use: the others are served first. Whether it waits so.
    cdef readonly bint doubted
    cdef bint _aside
    # How often it was asked in which turn; for how many reviews it owes an answer.
    cdef int _asks
    cdef int64_t _asks_turn
    cdef int _overdue
    cdef bint _listed

    cdef void grant(self, int n)
    cdef void reclaim(self, int n)
    cdef void overdue(self, int reviews)


cdef class CreditPool:
    cdef readonly int limit
    cdef readonly int granted
    cdef readonly int orphaned
    cdef readonly int in_use
    cdef set _holders
    cdef Ranks _ranks
    # Those who wait: sources, in these peers, in these holders.
    cdef Poorest _waiters
    # Those who wait although they are doubted; whether the first of them is due a credit.
    cdef Poorest _doubtful
    cdef bint _favour
    cdef dict _accounts
    cdef dict _doubted_sources
    cdef list _asked_holders
    cdef int64_t _reviewed_at
    # What calls ``review``, for those who have a clock.
    cdef object pacer
    # Sums over the holders of ``waiting`` and ``_asked``.
    cdef int64_t _waiting
    cdef int64_t _asked
    # Somebody waits, or more is out than the limit.
    cdef bint _short
    cdef int64_t _turn
    cdef int _ended
    # Of the protected ones the last ``_unjudged`` have not been looked at for those who wait.
    cdef Py_ssize_t _unjudged
    cdef bint _review
    cdef int64_t _reviewed_turn
    cdef int _reviewed_held
    cdef Holder _probed
    cdef list _told

    cpdef int join(self, Holder holder, Account account=*) except -1
    cpdef Account account(self, str source, bytes identity)
    cpdef int leave(self, Holder holder) except -1
    cdef bint began(self, Holder holder) noexcept
    cdef int done(self, Holder holder)
    cpdef int returned(self, Holder holder, int n) except -1
    cpdef int demand(self, Holder holder, int waiting) except -1
    cpdef int kept(self, Holder holder, int n)
    cpdef int review(self) except -1
    cdef void doubt(self, Holder holder)
    cpdef int set_limit(self, int limit) except -1
    cdef int _done_short(self, Holder holder)
    cdef int _set_waiting(self, Holder holder, int waiting) except -1
    cdef int _line_up(self, Holder holder) except -1
    cdef void _step_out(self, Holder holder)
    cdef Holder _poorest(self)
    cdef Ranked _poorer(self, Ranked node, Holder holder)
    cdef Ranked _poorer_than(self, Ranked node, Holder holder)
    cdef void _believe(self, Holder holder)
    cdef int _judge(self, Holder holder) except -1
    cdef int _rate(self, Holder holder, int line, bint doubted) except -1
    cdef Poorest _line_of(self, Ranked node)
    cdef bint _may_ask(self, Holder holder) noexcept
    cdef void _forget_asked(self, Holder holder) noexcept
    cdef int _wanted(self, Holder holder) noexcept
    cdef void _change(self, Holder holder, int n) noexcept
    cdef void _protect(self, Holder holder) noexcept
    cdef void _give(self, Holder holder, int n)
    cdef void _settle(self)
    cdef void _place_idle(self, int free)
    cdef void _welcome(self)
    cdef void _set_apart(self, Holder holder) noexcept
    cdef void _ask_back(self)
    cdef void _ask_protected(self, Holder poorest, int64_t missing, int frames)
    cdef int _may_take(self, Holder holder, Holder poorest)
    cdef void _ask(self, Holder holder, int n)
