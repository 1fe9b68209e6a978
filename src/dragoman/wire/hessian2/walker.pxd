from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t

from dragoman.wire.buffer cimport Buffer

cdef enum:
    OPEN = -1      # of Reference.end: still being written
    SKIPPED = -2

cdef struct ClassInfo:
    Py_ssize_t name, name_length    # in names, as a JSON string
    Py_ssize_t first, count         # in fields
    int kind
    int cause                       # the number of the field ``cause``, or -1

# Small, since a field may be a single byte on the wire.
cdef struct FieldInfo:
    uint32_t name, name_length      # in names, as a JSON string and a colon
    int8_t role                     # in its class's fold, or -1
    uint8_t hidden                  # by a field of the same name behind it

cdef struct Reference:
    Py_ssize_t start, end           # in json, or in aside
    int height
    bint aside


cdef class Hessian2Walker:
    cdef object owner
    cdef const uint8_t* data
    cdef Py_ssize_t n
    cdef readonly Py_ssize_t at
    cdef Buffer json         # all values of the stream so far, as JSON
    cdef Buffer names        # class and field names as JSON strings
    cdef Buffer classes, fields, references
    cdef Py_ssize_t class_count, type_count, reference_count
    cdef Py_ssize_t containers_left, containers_max
    cdef int depth_max
    cdef object enums

    cdef int start(self, object owner, const uint8_t* data, Py_ssize_t n) except -1
    cdef int32_t int32(self) except? -1
    cdef int text(self, Buffer out) except -1
    cdef int skip(self) except -1

    cdef object bad(self, str what, Py_ssize_t at)
    cdef object cut(self, str what)
    cdef int64_t number(self, uint8_t tag) except? -1
    cdef int64_t next_number(self, str what) except? -1
    cdef int put_text(self, Buffer out) except -1
    cdef Py_ssize_t pass_binary(self) except -1
    cdef int pass_type(self) except -1
    cdef int64_t list_head(self, uint8_t tag) except -2
    cdef bint ends(self, str what) except -1
    cdef Py_ssize_t class_number(self, uint8_t tag, Py_ssize_t at) except -1
    cdef int64_t referred(self) except -1
    cdef Py_ssize_t enter(self, Py_ssize_t at) except -1
    cdef uint8_t definitions(self) except? 255
    cdef int define(self) except -1
    cdef int define_fields(self, ClassInfo* made, tuple roles) except -1
    cdef int hide(self, Py_ssize_t first, Py_ssize_t last) except -1
    cdef int pass_value(self, int depth) except -1
    cdef int pass_bytes(self, int count) except -1
    cdef int pass_nested(self, uint8_t tag, int depth) except -1
    cdef int enter_skipped(self, Py_ssize_t at) except -1
    cdef int pass_object(self, uint8_t tag, Py_ssize_t at, int depth) except -1
    cdef int pass_map(self, uint8_t tag, Py_ssize_t at, int depth) except -1
    cdef int pass_list(self, uint8_t tag, Py_ssize_t at, int depth) except -1
