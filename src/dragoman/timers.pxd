from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t

cdef int64_t now_us() noexcept nogil


cdef class Timed:
    # Uncounted links; the wheel itself owns one reference to each member (taken in `schedule`).
    cdef PyObject* _previous
    cdef PyObject* _next
    cdef Wheel _wheel
    cdef int64_t due_tick

    cdef void on_due(self)


cdef class Wheel:
    cdef object _loop
    cdef object _handle
    cdef object _tick_method
    cdef PyObject** _slots
    cdef PyObject* _firing
    cdef readonly Py_ssize_t armed
    cdef int64_t _tick
    cdef int64_t _wake_tick
    cdef bint _virtual
    cdef readonly bint closed

    cdef int64_t clock_us(self)
    cdef void schedule(self, Timed timed, int64_t due_us)
    cdef void cancel(self, Timed timed) noexcept
    cdef void _unlink(self, Timed timed) noexcept
    cdef void _sleep_until(self, int64_t tick)
    cdef int _fire_slot(self, Py_ssize_t slot) except -1
