"""One HTTP request on its way to a service, and the connection as it sees it."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint16_t, uint32_t

from dragoman.rpc.client_session cimport ClientSession
from dragoman.wire.http1.encode cimport (
    CONNECTION_CLOSE, CONNECTION_DEFAULT, CONNECTION_KEEP_ALIVE,
)


cdef class HttpCaller(Gathering):
    """The connection that a call came on. Each call of it ends in one of the last three."""

    cdef int begin_large(self, HttpCall call, tuple described, bytes payload) except -1:
        """A large call has been looked through, and its payload joined: submit it."""
        return 0

    cdef void call_refused(self, HttpCall call, error):
        """A large call turned out to be malformed."""

    cdef void call_succeeded(self, HttpCall call, const char* body, Py_ssize_t n, bytes owner):
        """The service has answered."""

    cdef void call_failed(self, HttpCall call, int code, str message):
        """The service has not answered, or with an error."""


@cython.no_gc_clear
cdef class HttpCall(ServiceCall):
    """One HTTP request on its way."""

    def __dealloc__(self):
        self.count(0)

    cdef void count(self, size_t n) noexcept:
        """``n`` bytes are held for it."""
        if self.counts_in is not None:
            self.counts_in.take(n)
            self.counts_in.give(self.counted)
            self.counted = n

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        if self.body_length > APART_BYTES and len(self.body_owner) == self.body_length:
            return session.submit_body(self, 0, target, self.body_owner, timeout_ms, None)
        return ServiceCall.put(self, session, target, timeout_ms)

    cdef int connection_says(self) noexcept:
        """The response's ``connection`` field."""
        if not self.keep_alive:
            return CONNECTION_CLOSE
        return CONNECTION_KEEP_ALIVE if self.http_1_0 else CONNECTION_DEFAULT

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        cdef HttpCaller connection = self.connection
        if connection is not None:
            connection.call_succeeded(self, body, n, owner)

    cdef void on_failure(self, int code, str message):
        cdef HttpCaller connection = self.connection
        if connection is not None:
            connection.call_failed(self, code, message)


cdef bytes whole_bytes(const char* body, Py_ssize_t n, bytes owner):
    """A body as bytes; those that hold it and nothing else, if there are any."""
    if owner is not None and len(owner) == n and PyBytes_AS_STRING(owner) == body:
        return owner
    return PyBytes_FromStringAndSize(body, n)
