from libc.stdint cimport int64_t, uint32_t

from dragoman.cluster.line cimport ServiceCall
from dragoman.cluster.service cimport Service
from dragoman.rpc.batch cimport BatchReplies
from dragoman.rpc.client_base cimport ClientBase, Style


cdef class Account(ClientBase):
    cdef Service _service


cdef class PoolCall(ServiceCall):
    cdef Account account
    cdef Style style
    # What is told how it ends: the future or the callback; of a notification the error.
    cdef object to

    cdef object error_of(self, int code, str message)
    cdef bint forgotten(self)


cdef class BatchItem(PoolCall):
    cdef Batch batch
    cdef uint32_t number


cdef class Batch:
    cdef Account account
    cdef BatchReplies gathered
    cdef bytes method
    cdef list bodies
    cdef bytes order_key
    cdef bytes metadata
    cdef int64_t due_us
    cdef Py_ssize_t made
    cdef BatchItem delegate

    cdef void begin(self)
    cdef void feed(self)
    cdef void go_on(self)
    cdef void drop(self)
    cdef BatchItem _item(self)
    cdef void ended(self, BatchItem item, bytes reply, error)
    cdef void _give_up(self, error)
