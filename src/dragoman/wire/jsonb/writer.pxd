from libc.stdint cimport int64_t, uint8_t

from dragoman.wire.java.bean cimport Bean
from dragoman.wire.buffer cimport Buffer


cdef class JsonbWriter:
    cdef Buffer out
    cdef dict symbols      # text -> number, of names and of types
    cdef object constants  # the classes that are enums, where that is known for all; else None
    cdef dict seen         # id of a container -> (container, path)
    cdef int depth, depth_max

    cdef int start(self, Buffer out, int depth_max) except -1
    cdef int value(self, object value) except -1
    cdef int typed(self, object value, str descriptor) except -1

    cdef int tag(self, uint8_t byte) except -1
    cdef int int32(self, int64_t value) except -1
    cdef int int64(self, int64_t value) except -1
    cdef int double(self, double value) except -1
    cdef int text(self, str value) except -1
    cdef int chunk(self, uint8_t tag, bytes data) except -1
    cdef int raw(self, bytes data) except -1
    cdef int numbered(self, str name) except -1
    cdef int type_name(self, str name) except -1
    cdef int field(self, str name) except -1
    cdef int any(
        self, object value, object holder, object parent, object name, Py_ssize_t index
    ) except -1
    cdef int integer(self, object value) except -1
    cdef int other(self, object value) except -1
    cdef bint refer(self, object value, object holder, object path) except -1
    cdef int items(
        self, object values, str java_class, object path, bint constants=*
    ) except -1
    cdef int entries(self, dict values, str java_class, object path) except -1
    cdef int bean(self, Bean bean, object path) except -1
