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
    cdef readonly object read_view
    cdef char* read_buffer
    cdef object _read_owner

    cdef void mark(self, Gathering gathering)


cpdef Turn turn_of(loop)
