from libc.stdint cimport uint8_t

from dragoman.wire.hessian2.cursor cimport Hessian2Cursor


cdef class ClassDefinition:
    cdef readonly str name
    cdef readonly tuple fields
    cdef object convert


cdef class Hessian2Reader(Hessian2Cursor):
    cdef list references, classes, types

    cdef object value(self)
    cdef dict text_map(self)
    cdef dict attachments(self)

    cdef dict plain_map(self)
    cdef str type_name(self)
    cdef object nested(self, uint8_t tag, Py_ssize_t at)
    cdef object list_of(self, uint8_t tag)
    cdef object map_of(self, bint typed)
    cdef int definition(self) except -1
    cdef object instance(self, Py_ssize_t index, Py_ssize_t at)
    cdef object reference(self)
