from libc.stdint cimport int32_t, int64_t, uint8_t

from dragoman.wire.buffer cimport Buffer


cdef class Hessian2Scanner:
    cdef object owner
    cdef const uint8_t* data
    cdef Py_ssize_t n
    cdef readonly Py_ssize_t at
    cdef Buffer json         # all values of the stream so far
    cdef Buffer aside        # text that references need but the JSON does not have in place
    cdef Buffer names        # class and field names as JSON strings
    cdef Buffer classes, fields, references
    cdef Py_ssize_t class_count, type_count, reference_count
    cdef Py_ssize_t containers_left, containers_max, json_bytes_max
    cdef int depth_max
    cdef bint with_class
    cdef object enums

    cdef int start(self, object owner, const uint8_t* data, Py_ssize_t n) except -1
    cdef int32_t int32(self) except? -1
    cdef int text(self, Buffer out) except -1
    cdef int skip(self) except -1
    cdef const char* value(self, Py_ssize_t* length) except NULL

    cdef object bad(self, str what, Py_ssize_t at)
    cdef object cut(self, str what)
    cdef object too_much(self)
    cdef int64_t number(self, uint8_t tag) except? -1
    cdef int put_text(self, Buffer out) except -1
    cdef int put_double(self, uint8_t tag) except -1
    cdef int put_binary(self) except -1
    cdef int pass_type(self) except -1
    cdef Py_ssize_t enter(self, Py_ssize_t at) except -1
    cdef int define(self) except -1
    cdef int hide(self, Py_ssize_t first, Py_ssize_t last) except -1
    cdef int any(self, int depth) except -1
    cdef int put_list(self, uint8_t tag, int depth) except -1
    cdef int put_map(self, bint typed, int depth) except -1
    cdef int key(self, int depth) except -1
    cdef int put_object(self, int64_t index, Py_ssize_t at, int depth) except -1
    cdef int put_reference(self, int depth) except -1
    cdef int keep_aside(self, Py_ssize_t start, Py_ssize_t first) except -1
    cdef int fold(
        self, int kind, int64_t index, Py_ssize_t start, Py_ssize_t own, const Py_ssize_t* spans
    ) except -1
    cdef bint is_reference_to(self, Py_ssize_t number) except -1
    cdef int pass_value(self, int depth) except -1
    cdef Py_ssize_t pass_binary(self) except -1
