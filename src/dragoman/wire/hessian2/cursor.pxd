from libc.stdint cimport int32_t, int64_t, uint8_t

from dragoman.wire.java.bounded cimport BoundedReader


cdef class Hessian2Cursor(BoundedReader):
    cdef int32_t int32(self) except? -1
    cdef str text(self)

    cdef uint8_t tag(self) except? 255
    cdef int64_t number(self, uint8_t tag) except? -1
    cdef object double(self, uint8_t tag)
    cdef object string(self)
    cdef bytes binary(self)
    cdef object date(self, uint8_t tag)
