from dragoman.agent.ingress.call cimport HttpCall


cdef enum:
    # A longer JSON call is looked through in pieces of so much, a tick of the loop each.
    PIECE_BYTES = 131072


cdef class LargeCall:
    cdef HttpCall call
    cdef bytes path
    cdef bytes group
    cdef bytes version
    cdef object published
    cdef object outline
    # What the call is, once that is known; and its payload, of which so much has been joined.
    cdef tuple described
    cdef object parts
    cdef Py_ssize_t part_at
    cdef bytes payload
    cdef Py_ssize_t joined

    cdef bint go_on(self)
    cdef int _begin_join(self) except -1
    cdef bint _join(self) except -1


cdef class LargeCalls:
    cdef object _loop
    cdef object _published
    cdef object _calls

    cdef int add(self, HttpCall call, bytes path, bytes group, bytes version) except -1
