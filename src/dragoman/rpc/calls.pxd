from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.rpc.client_session cimport Call, ClientSession, SessionOwner
from dragoman.rpc.tick cimport Tick

cdef enum:
    # Ended calls of one kind that a client or a pool retains, to use them again.
    FREE_MAX = 4096
    # Of a batch shorter replies are retained in any case.
    SMALL_BYTES = 4096


cdef int report_raised(loop, error) except -1


cdef class Account(SessionOwner):
    cdef readonly object loop
    cdef Tick tick
    # Where all counts that its server makes it hold.
    cdef readonly Budget budget
    cdef readonly ClientSession session
    cdef readonly str endpoint
    cdef readonly int calls
    cdef readonly int64_t bytes
    cdef readonly int waiting
    cdef readonly int64_t waiting_bytes
    cdef readonly uint64_t sent
    cdef readonly uint64_t replies
    cdef readonly uint64_t failures
    cdef readonly uint64_t refused
    cdef readonly int wanted
    cdef int _calls_max
    cdef int64_t _bytes_max
    cdef set _leaving
    cdef ClientCall _first
    cdef ClientCall _last
    # Ended calls that are used again, each the one before the next in line.
    cdef FutureCall _free_futures
    cdef CallbackCall _free_callbacks
    cdef int _free

    cdef inline void ended(self, bint well) noexcept
    cdef void line_up(self, ClientCall call) noexcept
    cdef void withdraw(self, ClientCall call) noexcept


cdef class ClientCall(Call):
    cdef Account account
    cdef str method
    cdef bytes body
    cdef bytes order_key
    cdef Py_ssize_t body_bytes
    cdef Py_ssize_t largest
    cdef Py_ssize_t unsent
    cdef int64_t due_us
    cdef bint in_line
    cdef bint done
    cdef ClientCall _ahead
    cdef ClientCall _behind

    cdef inline void begin(
        self, Account account, str method, Py_ssize_t n, Py_ssize_t count, int64_t due_us
    )
    cdef int send(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1
    cdef void deliver(self, bytes reply)
    cdef void fail(self, error)
    cdef void refuse(self, error)
    cdef void recycle(self)
    cdef inline void _finish(self, bint well)


cdef class FutureCall(ClientCall):
    cdef object future


cdef class CallbackCall(ClientCall):
    cdef object callback


cdef class Notification(ClientCall):
    cdef object error


cdef class BatchCall(ClientCall):
    cdef object future
    cdef list bodies
    cdef list replies
    cdef dict errors
    cdef Py_ssize_t unanswered
    cdef uint32_t* ids
    # Of its replies, counted in the account's budget.
    cdef size_t retained_bytes

    cdef inline void _hand_over(self) noexcept
    cdef inline void _one_ended(self, bint well)
    cdef void _settle(self)
    cdef void _abandon_all(self)
