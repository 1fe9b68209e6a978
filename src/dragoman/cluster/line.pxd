from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.cluster.choice cimport Choice
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints
from dragoman.cluster.lanes cimport Lane, Lanes
from dragoman.flow.waiting cimport WaitingQueue
from dragoman.rpc.client_session cimport Call, ClientSession


cdef class ServiceCall(Call):
    cdef Line service
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
    # The endpoints that said that there is no such thing, or None.
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


cdef class Line(Endpoints):
    cdef Choice choice
    cdef readonly WaitingQueue waiting
    cdef Lanes _lanes
    cdef int64_t _sequence
    cdef bint _wait_on
    # A call has just been kept back for others that stood in line.
    cdef bint _yielded
    cdef int _calls_max
    cdef int64_t _bytes_max
    cdef readonly int calls
    cdef readonly int64_t bytes
    cdef readonly int64_t waiting_bytes
    # Calls that are announced, and not submitted yet.
    cdef int64_t more
    cdef readonly uint64_t replies
    cdef readonly uint64_t failures
    cdef readonly uint64_t withdrawn
    cdef readonly uint64_t expired

    cdef void submit(self, ServiceCall call)
    cdef bint send(self, ServiceCall call, int64_t now, bint newcomer)
    cdef void send_to(self, ServiceCall call, Endpoint endpoint, int64_t now)
    cdef bint turned_away(self, ServiceCall call)
    cdef void failed(
        self, ServiceCall call, Endpoint endpoint, int code, bint retry_safe, str message
    )
    cdef inline bint bounded(self, ServiceCall call)
    cdef void end(self, ServiceCall call, int code, str message)
    cdef void enter_line(self, ServiceCall call)
    cdef void leave_line(self, ServiceCall call)
    cdef void take_turns(self)
    cdef void submit_in_lane(self, ServiceCall call)
    cdef Endpoint _home(self, Lane lane)
    cdef void left_lane(self, Lane lane)
    cdef void _place_lanes(self)
    cdef int64_t _drain_lanes(self, Endpoint endpoint, int64_t now, int64_t most)
    cdef void rejoin(self, ServiceCall call)
    cdef void tell_waiting(self)
    cdef void drain_waiting(self, int64_t most)
    cdef bint _any_room(self)
    cdef void fail_waiting(self)
