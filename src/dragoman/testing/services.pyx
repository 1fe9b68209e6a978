"""Services for Python callers: bytes in, bytes out.

``cluster.service`` speaks C to the agents; here the same ``Service`` takes Python functions
(``submit``) or is awaited (``call``). Used by programs that call services without an agent, and by
the tests.

Invariant: a request ends exactly once, in ``on_result``, in ``on_failure`` or by ``cancel``; a
callback that raises harms nobody else.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t

from dragoman.cluster.line cimport ServiceCall
from dragoman.cluster.service cimport Service

from dragoman.errors import UsageError, from_code
from dragoman.rpc.ending import reported

cdef int64_t TIMEOUT_MS_MAX = 0xFFFFFFFF


cdef class ServiceRequest(ServiceCall):
    """A request made by ``submit``. ``done`` tells whether it has ended."""

    cdef object _on_result
    cdef object _on_failure
    cdef readonly bint done

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        self.done = True
        try:
            self._on_result(owner if owner is not None and len(owner) == n else body[:n])
        except BaseException as error:
            self._report("a request's on_result raised", error)

    cdef void on_failure(self, int code, str message):
        self.done = True
        try:
            self._on_failure(from_code(code, message, retry_safe=False))
        except BaseException as error:
            self._report("a request's on_failure raised", error)

    def _report(self, what, error):
        reported(self.service.loop, what, error)

    def cancel(self):
        """Withdraw the request: no callback follows. Does nothing once it has ended."""
        if not self.done:
            self.done = True
            self.withdraw()


def submit(
    Service service not None, bytes method not None, bytes body not None, on_result, on_failure, *,
    int64_t timeout_ms=5000,
):
    """Send ``body`` to ``method`` of some endpoint of ``service``, now or when one has room.

    Exactly one callback follows, perhaps before this returns: ``on_result(bytes)`` or
    ``on_failure(DragomanError)``. ``timeout_ms`` is the time allowed in all, waiting and retries
    included. Raises UsageError for arguments that cannot be sent.
    """
    cdef ServiceRequest request
    if not 1 <= len(method) <= 1024:
        raise UsageError(f"a method's name has 1 to 1024 bytes, not {len(method)}")
    if not 1 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise UsageError(f"timeout_ms must be 1 to {TIMEOUT_MS_MAX}, not {timeout_ms}")
    request = ServiceRequest.__new__(ServiceRequest)
    request._on_result = on_result
    request._on_failure = on_failure
    request.method = method
    request.body_owner = body
    request.body = PyBytes_AS_STRING(body)
    request.body_length = len(body)
    request.started_us = service.tick.wheel.clock_us()
    request.due_us = request.started_us + timeout_ms * 1000
    service.submit(request)
    return request


async def call(
    Service service not None, bytes method not None, bytes body not None, *, timeout_ms=5000
):
    """``submit``, awaited: the result, or the DragomanError raised. Cancelling the task withdraws
    the request.
    """
    future = service.loop.create_future()
    request = submit(
        service, method, body,
        lambda result: future.done() or future.set_result(result),
        lambda error: future.done() or future.set_exception(error),
        timeout_ms=timeout_ms,
    )
    try:
        return await future
    finally:
        request.cancel()
