from dragoman.rpc.tick cimport Gathering, Tick


cdef class PipeEnd(Gathering):
    cdef readonly object loop
    cdef Tick tick
    cdef object protocol
    cdef PipeEnd other
    cdef str _peer
    # What the other end has written and this end's protocol has not been given.
    cdef list _inbox
    cdef Py_ssize_t _inbox_bytes
    cdef bint _reading
    cdef bint _full
    cdef bint _closing
    cdef bint _finished
    cdef bint _ended

    cdef int _take_in(self, bytes data) except -1
    cdef void _discard(self)
    cdef void _end(self)
