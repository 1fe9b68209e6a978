from libc.stdint cimport int64_t, uint32_t

from dragoman.timers cimport Timed, Wheel


cdef class Gathering(Timed):
    cdef bint _marked

    cdef void flush(self)


cdef class Turn:
    cdef readonly object loop
    cdef readonly Wheel wheel
    cdef object call_soon
    cdef object _flush_method
    cdef list _marked
    cdef bint _scheduled
    cdef bint _reading
    cdef bint _flushing
    cdef bint _crowded
    cdef int _reads
    cdef int _sparse_turns
    cdef int64_t _since_us
    cdef int64_t _now_us
    cdef int64_t _moment
    # The request that a handler is answering now, as ``dispatch`` keeps it; None between reads.
    cdef object request_session
    cdef object request_method
    cdef uint32_t request_timeout_ms
    cdef bint request_no_reply
    cdef readonly object read_view
    cdef char* read_buffer
    cdef object _read_owner

    cdef void mark(self, Gathering gathering)
    cdef void read_begins(self) noexcept
    cdef void read_ends(self, int64_t now_us)
    cdef void _flush(self)
    cdef inline int64_t now_us(self)


cpdef Turn turn_of(loop)
