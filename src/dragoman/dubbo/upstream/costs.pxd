from dragoman.dubbo.upstream.encode_request cimport Asked

cdef enum:
    # What is no longer than this is never costly, nor looked at.
    SMALL_BYTES = 8192

cdef bint costly_request(
    int serialization, int method, const char* body, Py_ssize_t n
) noexcept nogil
cdef bint heavier(const char* text, Py_ssize_t n, Py_ssize_t weight_max) noexcept nogil
cdef bint costly_reply(
    const Asked* asked, int serialization, const char* body, Py_ssize_t n
) noexcept nogil
