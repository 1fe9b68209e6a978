from libc.stdint cimport uint8_t

from dragoman.wire.java.bean cimport Bean
from dragoman.wire.jsonb.cursor cimport JsonbCursor


cdef class JsonbReader(JsonbCursor):
    cdef list symbols, later
    cdef set constants     # the classes of which there were constants, if somebody asks for them

    cdef object document(self)

    cdef str name(self)
    cdef str type_name(self)
    cdef str numbered(self)
    cdef str by_number(self)
    cdef object value(self)
    cdef object nested(self, uint8_t tag, Py_ssize_t at)
    cdef object with_class(self)
    cdef object of_class(self, str java_class)
    cdef object list_of(self, uint8_t tag, str java_class)
    cdef object map_of(self, str java_class)
    cdef object as_map(self, Bean bean, Py_ssize_t since)
    cdef object key(self)
    cdef bint reference(self, object container, object key) except -1
