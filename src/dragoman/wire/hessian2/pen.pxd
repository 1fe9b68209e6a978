from libc.stdint cimport int32_t, int64_t, uint8_t

from dragoman.wire.buffer cimport Buffer


cdef class Hessian2Pen:
    cdef Buffer out

    cdef int tag(self, uint8_t byte) except -1
    cdef int null(self) except -1
    cdef int boolean(self, bint value) except -1
    cdef int int32(self, int32_t value) except -1
    cdef int int64(self, int64_t value) except -1
    cdef int double(self, double value) except -1
    cdef int milliseconds(self, int64_t value) except -1
    cdef int text(self, str value) except -1
    cdef int utf8(self, const char* data, Py_ssize_t n) except -1
    cdef int binary(self, const uint8_t* data, Py_ssize_t n) except -1
