"""How a candidate does compared with the others: usual latency, rejections, who is to be shunned.

Whatever the policy, a candidate that is several times slower than most, or whose last words were
rejections, gets what the others have no room for, and now and then a call that shows whether it has
recovered. Pure: times are passed in. Used by ``cluster``, which calls ``judge`` now and then.

Invariant: one slow call among quick ones moves what is usual by a fifth at most, so no caller and
no value can have a provider shunned; a candidate that has shown nothing yet is never shunned.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t

from dragoman.balance.policies cimport Candidate

# From how many replies on a candidate is compared, and how many count alike at first.
cdef int COMPARED_FROM = 4
cdef int AVERAGED = 16
# Slow is who takes so many times as long as most, and a millisecond more; until it is below twice.
cdef double SLOW_TIMES = 3.0
cdef double WELL_TIMES = 2.0
cdef double SLOW_US = 1000.0
# A call longer than so many times the usual counts as though it had taken that.
cdef double CLAMP_TIMES = 4.0
# What was rejected or lost counts as though it had taken so many times the usual.
cdef double BAD_TIMES = 10.0
cdef double WORST_US = 5_000_000.0
# So many rejections in a row have a candidate shunned.
cdef int REJECTIONS = 3


cdef void took(Candidate candidate, double us, int64_t now_us) noexcept:
    """A call has been served in that time.

    Of those that are far out one counts for each time that a call takes usually: what a provider
    answers late all at once, when it has hung for a moment, says little of how it is now.
    """
    cdef double weight = 0.0625
    if candidate.samples > 1 and us > CLAMP_TIMES * candidate.ewma_us + SLOW_US:
        us = CLAMP_TIMES * candidate.ewma_us + SLOW_US
        if <double>(now_us - candidate.outlier_us) < candidate.ewma_us:
            return
        candidate.outlier_us = now_us
    if candidate.samples < AVERAGED:
        candidate.samples += 1
        weight = 1.0 / candidate.samples
    if candidate.slow:
        # It gets few, and is to be back soon.
        weight = 0.5
    candidate.ewma_us += (us - candidate.ewma_us) * weight


cdef double worst_of(list candidates, double usual_us) noexcept:
    """The latency that a rejected or lost call counts for, the worst, in microseconds."""
    cdef double worst = BAD_TIMES * usual_us
    cdef Py_ssize_t i
    for i in range(PyList_GET_SIZE(candidates)):
        worst = max(worst, (<Candidate>PyList_GET_ITEM(candidates, i)).ewma_us)
    return min(worst, WORST_US)


cdef void did_badly(Candidate candidate, double worst_us, bint rejected) noexcept:
    """A call was rejected, or lost there."""
    if candidate.samples:
        candidate.ewma_us += (worst_us - candidate.ewma_us) * 0.0625
    if rejected:
        candidate.rejections += 1


cdef int judge(list candidates):
    """Decide who is shunned; how many are."""
    cdef Py_ssize_t i
    cdef Candidate candidate
    cdef double usual = 0.0
    cdef int shunned = 0
    cdef list known = []
    for i in range(PyList_GET_SIZE(candidates)):
        candidate = <Candidate>PyList_GET_ITEM(candidates, i)
        if candidate.samples >= COMPARED_FROM and not candidate.barred:
            known.append(candidate.ewma_us)
    if len(known) > 1:
        known.sort()
        usual = known[(len(known) - 1) // 2]
    for i in range(PyList_GET_SIZE(candidates)):
        candidate = <Candidate>PyList_GET_ITEM(candidates, i)
        candidate.slow = usual > 0.0 and candidate.samples >= COMPARED_FROM \
            and candidate.ewma_us > usual * (WELL_TIMES if candidate.slow else SLOW_TIMES) + SLOW_US
        candidate.shunned = candidate.slow or candidate.rejections >= REJECTIONS
        shunned += candidate.shunned
    return shunned


def judged(list candidates not None, served_us=(), rejected=(), *, int64_t apart_us=1_000_000):
    """The candidates that are shunned (for tests): ``served_us`` are (candidate, time) of calls
    that were served, so far apart, ``rejected`` the candidates of calls that were not, in order.
    """
    cdef int64_t now_us = 1_000_000_000
    for candidate, us in served_us:
        now_us += apart_us
        took(candidate, us, now_us)
    for candidate in rejected:
        did_badly(candidate, 0.0, True)
    judge(candidates)
    return [candidate for candidate in candidates if (<Candidate?>candidate).shunned]
