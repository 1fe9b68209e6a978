from libc.stdint cimport int64_t, uint8_t

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.walker cimport Hessian2Walker


cdef class Hessian2Scanner(Hessian2Walker):
    cdef Buffer aside        # text that references need but the JSON does not have in place
    cdef Buffer _folded      # the text of the object at hand
    cdef Py_ssize_t json_bytes_max
    cdef bint with_class

    cdef const char* value(self, Py_ssize_t* length) except NULL

    cdef object too_much(self)
    cdef int put_double(self, uint8_t tag) except -1
    cdef int put_binary(self) except -1
    cdef int any(self, int depth) except -1
    cdef int put_nested(self, uint8_t tag, int depth) except -1
    cdef int put_list(self, uint8_t tag, int depth) except -1
    cdef int put_map(self, bint typed, int depth) except -1
    cdef int key(self, int depth) except -1
    cdef int put_object(self, uint8_t tag, Py_ssize_t at, int depth) except -1
    cdef int leave(self, Py_ssize_t own, int height) except -1
    cdef int put_reference(self, int depth) except -1
    cdef int keep_aside(self, Py_ssize_t start, Py_ssize_t first) except -1
    cdef int fold(
        self, int kind, int64_t index, Py_ssize_t start, Py_ssize_t own, const Py_ssize_t* spans
    ) except -1
    cdef bint is_reference_to(self, Py_ssize_t number) except -1
