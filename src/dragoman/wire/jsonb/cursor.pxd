from libc.stdint cimport int64_t, uint8_t

from dragoman.wire.java.bounded cimport BoundedReader


cdef class JsonbCursor(BoundedReader):
    cdef const uint8_t* take(self, Py_ssize_t count, str what) except NULL
    cdef int64_t number(self) except? -1
    cdef int64_t int32(self, int64_t least, int64_t most, str what) except? -1
    cdef object integer(self)
    cdef double fraction(self, uint8_t tag) except? -1
    cdef str text(self)
    cdef object date(self, uint8_t tag)
    cdef object moment(self, uint8_t tag)
