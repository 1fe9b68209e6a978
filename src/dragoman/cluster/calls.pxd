from libc.stdint cimport uint16_t, uint32_t, uint64_t

from dragoman.cluster.line cimport ServiceCall
from dragoman.cluster.service cimport Service


cdef class Account:
    cdef readonly object loop
    cdef Service _service
    cdef list _futures
    cdef list _callbacks
    cdef readonly uint64_t replies
    cdef readonly uint64_t failures


cdef class PoolCall(ServiceCall):
    cdef Account account

    cdef object error_of(self, int code, str message)
    cdef bint forgotten(self)


cdef class FutureCall(PoolCall):
    cdef object future


cdef class CallbackCall(PoolCall):
    cdef object callback


cdef class Notification(PoolCall):
    cdef object error


cdef class BatchItem(PoolCall):
    cdef Batch batch
    cdef uint32_t number


cdef class Batch:
    cdef Account account
    cdef object future
    cdef bytes method
    cdef list bodies
    cdef list replies
    cdef dict errors
    cdef bytes order_key
    cdef bytes metadata
    cdef long long due_us
    cdef Py_ssize_t unanswered
    cdef Py_ssize_t made
    cdef BatchItem delegate
    # Of its replies, counted in the budget.
    cdef size_t retained_bytes

    cdef bint _keep(self, Py_ssize_t n) noexcept
    cdef inline void _hand_over(self) noexcept
    cdef void begin(self)
    cdef void feed(self)
    cdef void go_on(self)
    cdef void drop(self)
    cdef BatchItem _item(self)
    cdef void ended(self, BatchItem item, bytes reply, error)
    cdef void _give_up(self, error)
    cdef void _settle(self)
