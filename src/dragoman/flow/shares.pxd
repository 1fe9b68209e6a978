from libc.stdint cimport int64_t

from dragoman.flow.ranks cimport Account, Poorest, Ranked, Ranks

cdef enum:
    # A turn is this part of a limit's worth of requests that end while somebody waits. Peaks are
    # forgotten by this part in each turn; what was just granted on demand is left alone as long as
    # a request takes.
    TURNS_A_LIMIT = 8


cdef class Holder(Ranked):
    cdef Shares pool
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


cdef class Shares:
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

    cdef int wanted(self, Holder holder) noexcept
    cdef void change(self, Holder holder, int n) noexcept
    cdef void protect(self, Holder holder) noexcept
    cdef Poorest line_of(self, Ranked node)
    cdef int set_waiting(self, Holder holder, int waiting) except -1
    cdef int _line_up(self, Holder holder) except -1
    cdef void _step_out(self, Holder holder)
    cdef Holder poorest(self)
