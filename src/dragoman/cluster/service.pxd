from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.balance.policies cimport Policy
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints
from dragoman.cluster.lanes cimport Lane, Lanes
from dragoman.flow.breaker cimport RetryBudget
from dragoman.flow.waiting cimport WaitingQueue
from dragoman.rpc.client_session cimport Call, ClientSession


cdef class ServiceCall(Call):
    cdef Service service
    cdef Endpoint endpoint
    cdef bytes method
    cdef const char* body
    cdef Py_ssize_t body_length
    cdef bytes body_owner
    cdef int64_t started_us
    cdef int64_t due_us
    cdef int64_t ended_us
    cdef int64_t sent_us
    cdef int attempts
    cdef Endpoint failed_at
    # Who has said that there is no such thing, or None.
    cdef list lacking
    cdef bytes order_key
    cdef Lane lane
    cdef int64_t sequence
    cdef bint no_reply
    cdef bint patient
    cdef bint in_line
    cdef bint again
    cdef bint never_ran

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1
    cdef inline void _left(self, Endpoint endpoint)
    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner)
    cdef void on_failure(self, int code, str message)
    cdef void withdraw(self)


cdef class Service(Endpoints):
    cdef Policy policy
    cdef Endpoint _favoured
    cdef int _quantum
    # What a call takes that is served, and whether some endpoint has charges.
    cdef double _usual_us
    cdef bint _charged
    cdef int _since_trickle
    cdef int64_t _favoured_us
    cdef readonly WaitingQueue waiting
    cdef readonly RetryBudget retries
    cdef Lanes _lanes
    cdef int64_t _sequence
    cdef bint _fail
    cdef bint _wait_on
    # A call has just been kept back for others that stood in line.
    cdef bint _yielded
    cdef int _calls_max
    cdef int64_t _bytes_max
    cdef readonly int calls
    cdef readonly int64_t bytes
    cdef readonly int64_t waiting_bytes
    cdef int64_t more
    cdef readonly uint64_t requests
    cdef readonly uint64_t replies
    cdef readonly uint64_t failures
    cdef readonly uint64_t withdrawn
    cdef readonly uint64_t one_way
    cdef readonly uint64_t retried
    cdef readonly uint64_t shed
    cdef readonly uint64_t expired
    cdef public object why_unread

    cdef void submit(self, ServiceCall call)
    cdef Endpoint _pick(self, Endpoint avoided, int64_t now)
    cdef bint _send_elsewhere(self, ServiceCall call)
    cdef bint _send(self, ServiceCall call, int64_t now, bint newcomer)
    cdef inline bint _bounded(self, ServiceCall call)
    cdef void _send_to(self, ServiceCall call, Endpoint endpoint, int64_t now)
    cdef void _send_and_forget(
        self, ServiceCall call, Endpoint endpoint, uint16_t method, uint32_t timeout_ms
    )
    cdef void _end(self, ServiceCall call, int code, str message)
    cdef void _wait(self, ServiceCall call)
    cdef bint _turned_away(self, ServiceCall call)
    cdef str _unread(self)
    cdef str _why_aside(self)
    cdef str _why_away(self)
    cdef void _refuse(self, ServiceCall call)
    cdef list _shown(self, idle_max)
    cdef void _enter_line(self, ServiceCall call)
    cdef void _leave_line(self, ServiceCall call)
    cdef void _submit_in_lane(self, ServiceCall call)
    cdef Endpoint _home(self, Lane lane)
    cdef void _left_lane(self, Lane lane)
    cdef void _place_lanes(self)
    cdef int64_t _drain_lanes(self, Endpoint endpoint, int64_t now, int64_t most)
    cdef void _rejoin(self, ServiceCall call)
    cdef void _drain_waiting(self, int64_t most)
    cdef void _take_turns(self)
    cdef bint _any_room(self)
    cdef void _tell_waiting(self)
    cdef void _fail_waiting(self)
    cdef void _failed(
        self, ServiceCall call, Endpoint endpoint, int code, bint retry_safe, str message
    )
    cdef bint _is_sign_of_life(self, ServiceCall call, int code) noexcept
    cdef void _missed(self, ServiceCall call, Endpoint endpoint, int64_t now)
    cdef void _well(self, ServiceCall call, Endpoint endpoint)
    cdef void _rejected(self, Endpoint endpoint, int64_t now, str why)
    cdef void _refused(self, Endpoint endpoint, int64_t now, str why)
    cdef void _charge(self, Endpoint endpoint, int64_t until_us, int64_t now)
    cdef void _took(self, double us) noexcept
    cdef Py_ssize_t _choose(self)
    cdef void _expire(self, int64_t now)
    cdef bint _all_full(self)
    cdef void sweep(self)
