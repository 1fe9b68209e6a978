from libc.stdint cimport int32_t, int64_t, uint8_t

cdef object date_of(int64_t ms)

cdef class ClassDefinition:
    cdef readonly str name
    cdef readonly tuple fields
    cdef object convert


cdef class Hessian2Reader:
    cdef object owner
    cdef const uint8_t* data
    cdef Py_ssize_t n
    cdef readonly Py_ssize_t at
    cdef list references, classes, types
    cdef bint exact, typed
    cdef int depth, depth_max
    cdef Py_ssize_t containers_left, containers_max, costly_keys
    # How much more may be read, as ``weigh`` counts; whoever bounds it sets it after ``start``.
    cdef Py_ssize_t weight_left

    cdef int start(
        self, object owner, const uint8_t* data, Py_ssize_t n, bint exact, int depth_max,
        Py_ssize_t containers_max
    ) except -1
    cdef object value(self)
    cdef int32_t int32(self) except? -1
    cdef str text(self)
    cdef dict text_map(self)
    cdef dict attachments(self)

    cdef object bad(self, str what, Py_ssize_t at)
    cdef object cut(self, str what)
    cdef uint8_t tag(self) except? 255
    cdef int64_t number(self, uint8_t tag) except? -1
    cdef int enter(self) except -1
    cdef int weigh(self, int more) except -1
    cdef object double(self, uint8_t tag)
    cdef object string(self)
    cdef bytes binary(self)
    cdef object date(self, uint8_t tag)
    cdef str type_name(self)
    cdef object nested(self, uint8_t tag, Py_ssize_t at)
    cdef object list_of(self, uint8_t tag)
    cdef object map_of(self, bint typed)
    cdef int put_key(self, dict target, object key, object value, Py_ssize_t at) except -1
    cdef int definition(self) except -1
    cdef object instance(self, Py_ssize_t index, Py_ssize_t at)
    cdef object reference(self)
