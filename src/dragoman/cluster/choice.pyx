"""The choice of an endpoint for the next request of a service.

``cluster.service`` asks it for each request. A policy (``balance.policies``) says which endpoint is
best; here several requests that come together go to one, an endpoint that does badly gets a trickle
only, and calls that ended without having done their work count for a while.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t

from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints

from dragoman.balance.policies import policy as make_policy

# How many calls go by until an endpoint that is shunned gets one.
cdef int TRICKLE = 256
# Requests within so short a time of each other count as coming together.
cdef int64_t TOGETHER_US = 500


cdef class Choice:
    """Chooses among the endpoints of one service; ``policy`` and ``seed`` as in its options."""

    def __init__(self, str policy, seed):
        self.policy = make_policy(policy, seed)

    cdef Endpoint pick(self, Endpoints service, Endpoint avoided, int64_t now):
        """The endpoint for the next request, or None when none has room.

        A policy may choose for several requests that come together (its quantum, at most a
        sixteenth of what the endpoint takes): they share a write here and a read there, and so do
        their replies, which keeps the cost of a request the same for one endpoint and a hundred.
        """
        cdef Py_ssize_t i
        cdef Endpoint endpoint = self._favoured
        cdef bint barred
        if self._charged:
            self._expire(service._ready, now)
        if avoided is not None:
            # Not where it has just failed, unless there is no other place.
            barred = avoided.barred
            avoided.barred = True
            i = self._choose(service)
            avoided.barred = barred
            if i < 0:
                i = self._choose(service)
            return <Endpoint>PyList_GET_ITEM(service._ready, i) if i >= 0 else None
        if self._quantum > 0 and endpoint.offer() > 0 \
                and (endpoint.peer.session._marked or now - self._favoured_us <= TOGETHER_US):
            self._quantum -= 1
            return endpoint
        i = self._choose(service)
        if i < 0:
            return None
        endpoint = <Endpoint>PyList_GET_ITEM(service._ready, i)
        if endpoint.shunned:
            self._quantum = 0
            return endpoint
        self._favoured = endpoint
        self._favoured_us = now
        self._quantum = min(
            self.policy.quantum, (endpoint.peer.room + endpoint.peer.inflight) // 16
        ) - 1
        return endpoint

    cdef Py_ssize_t _choose(self, Endpoints service):
        """The policy's choice; one that is shunned gets what nobody else has room for, and one call
        in ``TRICKLE`` while it has none.
        """
        cdef Py_ssize_t i
        cdef Endpoint endpoint
        cdef list shunned
        if service._shunning:
            self._since_trickle += 1
            if self._since_trickle >= TRICKLE:
                for i in range(PyList_GET_SIZE(service._ready)):
                    endpoint = <Endpoint>PyList_GET_ITEM(service._ready, i)
                    if endpoint.shunned and endpoint.under_way == 0 and endpoint.free() > 0:
                        self._since_trickle = 0
                        return i
        i = self.policy.pick(service._ready)
        if i < 0 and service._shunning:
            shunned = [endpoint for endpoint in service._ready if endpoint.shunned]
            for endpoint in shunned:
                endpoint.shunned = False
            i = self.policy.pick(service._ready)
            for endpoint in shunned:
                endpoint.shunned = True
        return i

    cdef void _expire(self, list ready, int64_t now):
        """Charges whose time has come count no longer."""
        cdef Endpoint endpoint
        cdef Py_ssize_t i
        self._charged = False
        for i in range(PyList_GET_SIZE(ready)):
            endpoint = <Endpoint>PyList_GET_ITEM(ready, i)
            if endpoint.charged:
                endpoint.charged = endpoint.charges.expire(now)
                if endpoint.charged:
                    self._charged = True

    cdef void charge(self, Endpoint endpoint, int64_t until_us, int64_t now):
        """A call that has ended counts for the balance until then."""
        if until_us > now:
            endpoint.charge(until_us)
            self._charged = True

    cdef void took(self, double us) noexcept:
        """A call has been served in that time: what is usual follows."""
        if self.usual_us == 0.0:
            self.usual_us = us
        elif us > 4.0 * self.usual_us + 1000.0:
            us = 4.0 * self.usual_us + 1000.0
        self.usual_us += (us - self.usual_us) * 0.03125
