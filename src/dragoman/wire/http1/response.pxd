from dragoman.wire.http1.message cimport MessageDecoder


cdef class ResponseDecoder(MessageDecoder):
    cdef readonly int code        # the response's status code
    cdef public bint head_only    # the request was HEAD: no body follows
    cdef Py_ssize_t line_at       # offset in the status line
    cdef int finish(self) noexcept
    cdef object describe(self, int event)
