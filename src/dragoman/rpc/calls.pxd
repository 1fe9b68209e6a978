from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.rpc.batch cimport BatchReplies
from dragoman.rpc.client_base cimport ClientBase, Style
from dragoman.rpc.client_session cimport Call, ClientSession


cdef class Account(ClientBase):
    # Where all counts that its server makes it hold.
    cdef readonly Budget budget
    cdef readonly ClientSession session
    cdef readonly str endpoint
    cdef readonly int calls
    cdef readonly int64_t bytes
    cdef readonly int waiting
    cdef readonly int64_t waiting_bytes
    cdef readonly uint64_t sent
    cdef readonly uint64_t refused
    cdef readonly int wanted
    cdef int _calls_max
    cdef int64_t _bytes_max
    cdef set _leaving
    cdef ClientCall _first
    cdef ClientCall _last

    cdef inline void ended(self, bint well) noexcept
    cdef void line_up(self, ClientCall call) noexcept
    cdef void withdraw(self, ClientCall call) noexcept


cdef class ClientCall(Call):
    cdef Account account
    cdef Style style
    # What is told how it ends: the future or the callback; of a notification the error.
    cdef object to
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
    cdef void fail(self, error)
    cdef void refuse(self, error)
    cdef inline void _recycle(self) noexcept
    cdef inline void _finish(self, bint well)


cdef class BatchCall(ClientCall):
    cdef BatchReplies gathered
    cdef list bodies
    cdef uint32_t* ids

    cdef inline void _one_ended(self, bint well)
    cdef void _settle(self)
    cdef void _abandon_all(self)
