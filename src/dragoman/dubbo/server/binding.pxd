cdef class Bound:
    cdef readonly object method
    cdef object function
    cdef tuple decoders
    cdef object encode
    cdef object encode_inner
    cdef str descriptor
    cdef bint threaded
    cdef bint coroutine


cdef class BoundService:
    cdef readonly str interface
    cdef readonly str version
    cdef readonly str group
    cdef dict _exact
    cdef dict _by_name

    cdef Bound find(self, str name, str descriptor)
