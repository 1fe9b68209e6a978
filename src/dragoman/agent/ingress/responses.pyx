"""The bytes of a response to an ``HttpCall``: a result, or an error by ``agent.contract``."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t

from dragoman.agent.ingress.call cimport APART_BYTES, HttpCall, whole_bytes
from dragoman.budget cimport Budget
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.http1.encode cimport write_response

import time

from dragoman.agent import contract

cdef bytes TEXT = b"text/plain;charset=utf-8"
cdef bytes JSON = b"application/json"


cdef class Responses:
    """Makes the responses of one loop. ``methods`` is what a 405 names."""

    def __init__(self, Budget budget, str methods):
        self._methods = methods
        self._date = b""
        self._scratch = Buffer()
        self._scratch.budget = budget

    cdef bytes date(self, int64_t now_us):
        """The field line ``date`` (RFC 9110 section 6.6.1), made anew once a second."""
        cdef double wall
        if now_us >= self._date_until_us:
            wall = time.time()
            self._date = contract.date_line(wall)
            self._date_until_us = now_us + <int64_t>(1e6 * (1.0 - wall % 1.0))
        return self._date

    cdef bytes result(self, HttpCall call, const char* body, Py_ssize_t n, bytes owner):
        """The response with the result of ``call``: the whole of it, or what goes before
        ``call.rest``."""
        cdef bytes kind = JSON if call.json else TEXT
        cdef bytes fields = self.date(call.ended_us)
        cdef bint apart = n > APART_BYTES
        if call.origin is not None:
            fields += contract.cors_lines(call.origin)
        write_response(
            self._scratch, 200, PyBytes_AS_STRING(kind), len(kind), PyBytes_AS_STRING(fields),
            len(fields), NULL if apart else body, n, call.connection_says(),
        )
        if apart:
            call.rest = whole_bytes(body, n, owner)
        return self._scratch.take()

    cdef bytes accepted(self, HttpCall call):
        """The response to a call without result, which has been passed on."""
        return contract.accepted_response(
            call.connection_says(), self.date(call.ended_us), call.origin
        )

    cdef bytes error(self, HttpCall call, int status, str name, str why, int64_t now_us):
        """The whole response with an error for ``call``."""
        return contract.error_response(
            status, name, why, call.connection_says(), self.date(now_us), call.origin,
            self._methods,
        )
