from dragoman.wire.http1.message cimport MessageDecoder


cdef class RequestDecoder(MessageDecoder):
    cdef Py_ssize_t target_bytes_max
    cdef readonly int method
    cdef const char* target      # as it came
    cdef Py_ssize_t target_length
    cdef const char* path        # without scheme, authority and query
    cdef Py_ssize_t path_length
    cdef const char* query       # after the question mark; NULL without one
    cdef Py_ssize_t query_length
    cdef const char* host        # whom the request is for: the target's authority, or Host
    cdef Py_ssize_t host_length  # 0 without one (HTTP/1.0)
    cdef readonly bint content_encoded  # the body has a Content-Encoding other than identity
    cdef readonly bint http_1_0
    cdef bint continue_asked
    cdef readonly bint continue_wanted
    # offsets from the head's start
    cdef Py_ssize_t target_at
    cdef Py_ssize_t target_end
    cdef Py_ssize_t version_at
    cdef Py_ssize_t host_at
    cdef bint host_seen
    cdef bint encoding_seen
    cdef bint host_from_target
    cdef bint expect_unknown
    cdef int check_target(self, const unsigned char* p, Py_ssize_t n) noexcept
    cdef int check_request_line(self, const unsigned char* head) noexcept
