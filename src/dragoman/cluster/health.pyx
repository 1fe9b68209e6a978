"""The health of endpoints, by how calls end there: well, rejected, too late, or lost.

``cluster.line`` and ``cluster.service`` report here. The verdicts are carried out elsewhere: the
breaker of the endpoint sets it aside for one service, that of its peer for all of them, and
``balance.merit`` has an endpoint shunned that does worse than others.
"""

from libc.stdint cimport int64_t

from dragoman.balance.merit cimport did_badly, judge, worst_of
from dragoman.cluster.choice cimport Choice
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints
from dragoman.cluster.peer cimport Peer

from dragoman.errors import OWN_CODES_FROM, Code

# An agent whose provider is away is asked again this soon at first: its refusal costs it nothing.
cdef int64_t UNAVAILABLE_PAUSE_US = 50_000
# A deadline counts against an endpoint that had this long, and twice its usual latency: callers in
# too much of a hurry must not have it set aside for the others.
cdef int64_t FAIR_US = 100_000
cdef double FAIR_LATENCIES = 2.0
# An endpoint that rejects so many calls in a row, and does nothing else for so long (and twice its
# usual latency), is set aside.
cdef int REJECTED_MOST = 5
cdef int64_t REJECTED_US = 100_000

cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_OVERLOAD = Code.OVERLOAD
cdef int C_DEADLINE = Code.DEADLINE
cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL
cdef int C_REMOTE = Code.REMOTE
cdef int C_NOT_FOUND = Code.NOT_FOUND
cdef int OWN_CODES = OWN_CODES_FROM


cdef void attempt_failed(
    Endpoints service, Choice choice, Endpoint endpoint, int64_t sent_us, bint answered, int code,
    str message, int64_t now,
):
    """An attempt that was sent to ``endpoint`` at ``sent_us`` has failed: is that its fault?"""
    cdef Peer peer = endpoint.peer
    cdef double worst_us
    endpoint.failures += 1
    if _is_sign_of_life(service, answered, code):
        peer.replied_us = now
        did_well(service, endpoint, sent_us)
        # However soon it was thrown: it attracts no more than others do who do the work.
        choice.charge(endpoint, sent_us + <int64_t>choice.usual_us, now)
    elif code == C_DEADLINE:
        missed_deadline(endpoint, sent_us, now)
    elif code == C_OVERLOAD or code == C_UNAVAILABLE or code == C_UPSTREAM_LOST \
            or code == C_UPSTREAM_PROTOCOL:
        worst_us = worst_of(service._ready, choice.usual_us)
        choice.charge(endpoint, sent_us + <int64_t>worst_us, now)
        did_badly(endpoint, worst_us, code == C_OVERLOAD)
        if code == C_OVERLOAD:
            _rejected(service, endpoint, now, message)
        elif code == C_UNAVAILABLE:
            # Its own word for it that it serves nobody now: no need to try five times.
            endpoint.unavailable_us = now
            endpoint.full = False
            _refused(service, endpoint, now, message)
        elif not endpoint.gone:
            peer.failed(now, message)


cdef void missed_deadline(Endpoint endpoint, int64_t sent_us, int64_t now):
    """A deadline passed at ``endpoint``, which may be its failure if it had a fair time."""
    cdef int64_t had_us = now - sent_us
    if had_us >= FAIR_US and <double>had_us >= FAIR_LATENCIES * endpoint.ewma_us:
        endpoint.peer.missed_one(sent_us, now)


cdef void did_well(Endpoints service, Endpoint endpoint, int64_t sent_us):
    """``endpoint`` has answered: it is well.

    What was sent before it said that it serves nobody does not show that it does again.
    """
    if endpoint.set_aside():
        # How it did before it was set aside is past.
        endpoint.samples = 0
    if endpoint.rejections:
        endpoint.rejections = 0
        service._shunning = judge(service._ready)
    service.recovered(endpoint, sent_us > endpoint.unavailable_us)


cdef void _rejected(Endpoints service, Endpoint endpoint, int64_t now, str why):
    """``endpoint`` had no place for a call. One that serves others meanwhile is merely full;
    one that does nothing but reject for a while is set aside.
    """
    if endpoint.rejections == 1:
        endpoint.rejecting_us = now
    service._shunning = judge(service._ready)
    if endpoint.breaker.open or (
        endpoint.rejections >= REJECTED_MOST
        and now - max(endpoint.rejecting_us, endpoint.peer.replied_us)
        > max(REJECTED_US, <int64_t>(2 * endpoint.ewma_us))
    ):
        endpoint.full = True
        _refused(service, endpoint, now, why)


cdef void _refused(Endpoints service, Endpoint endpoint, int64_t now, str why):
    """By its own word ``endpoint`` is not to be asked for a moment."""
    cdef bint was_open = endpoint.breaker.open
    endpoint.aside = why
    endpoint.breaker.trip_briefly(now, UNAVAILABLE_PAUSE_US)
    if not was_open:
        service.tripped(endpoint, why)


cdef bint _is_sign_of_life(Endpoints service, bint answered, int code) noexcept:
    """Whether an error is a reply of the callee, which lives: it concerns that call alone.

    What stands on the way to it (an agent, say) may answer too, and that says nothing. That
    the callee is full or leaving is its own word against itservice.
    """
    if code == C_OVERLOAD or code == C_UNAVAILABLE:
        return False
    if answered or code == C_REMOTE or code == C_NOT_FOUND or code >= OWN_CODES:
        return True
    # Where nobody stands on the way, all but the end of the session is the callee's answer.
    return service._pings and code != C_UPSTREAM_LOST and code != C_UPSTREAM_PROTOCOL \
        and code != C_DEADLINE
