from dragoman.budget cimport Budget
from dragoman.cluster.line cimport ServiceCall
from dragoman.rpc.tick cimport Gathering


cdef enum:
    # A longer body is written from where it is, a request's and a response's.
    APART_BYTES = 65536


cdef class HttpCaller(Gathering):
    cdef int begin_large(self, HttpCall call, tuple described, bytes payload) except -1
    cdef void call_refused(self, HttpCall call, error)
    cdef void call_succeeded(self, HttpCall call, const char* body, Py_ssize_t n, bytes owner)
    cdef void call_failed(self, HttpCall call, int code, str message)


cdef class HttpCall(ServiceCall):
    cdef HttpCaller connection  # None: its client has left, or has its answer
    cdef bint json
    cdef bint accepted  # there is no result: 202
    cdef bint keep_alive
    cdef bint http_1_0
    cdef bytes response
    cdef bytes rest    # what is written after the response, if that is not the whole
    cdef bytes origin  # of the page that asks, if pages of other origins may
    cdef Budget counts_in
    cdef size_t counted  # bytes of its body, or of a response that waits for its turn

    cdef int connection_says(self) noexcept
    cdef void count(self, size_t n) noexcept


cdef bytes whole_bytes(const char* body, Py_ssize_t n, bytes owner)
