"""Log lines of refused requests and failed calls.

Invariant: a line a second for each service and kind of error, which counts those before it; the
kinds held are bounded.
"""

from libc.stdint cimport int64_t

from dragoman.agent.ingress.call cimport HttpCall

import logging

from dragoman.agent import contract

cdef enum:
    # A kind's lines: at most this often, of this many kinds, this far into a body.
    LINE_US = 1_000_000
    KINDS_MAX = 1024
    METHOD_WITHIN = 2048

log = logging.getLogger("dragoman.agent")


cdef class FailureLog:
    """Counts the failures of one loop and tells of them."""

    def __init__(self):
        self._kinds = {}

    cdef str _more(self, tuple kind, int64_t now_us):
        """The end of a kind's line, or None while none is due."""
        cdef list known = self._kinds.get(kind)
        cdef str more
        if known is None:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            known = self._kinds[kind] = [0, 0]
        if now_us < <int64_t>known[0]:
            known[1] += 1
            return None
        more = f", and {known[1]} more like it" if known[1] else ""
        known[0] = now_us + LINE_US
        known[1] = 0
        return more

    cdef void refused(self, str name, str why, int64_t now_us):
        """A request was refused by this agent itself."""
        cdef str more = self._more(("", name), now_us)
        if more is not None:
            log.warning("a request was refused here: %s: %s%s", name, why, more)

    cdef void failed(self, HttpCall call, str name, str message):
        """A call failed.

        An exception that a method threw is the caller's affair (debug tells of it), and a
        provider's text may hold anybody's data: only reasons of our own are written.
        """
        cdef int level = logging.DEBUG if name in contract.CALLERS_OWN else logging.WARNING
        cdef tuple kind = (call.service.name, name)
        cdef str more
        if not log.isEnabledFor(level):
            return
        more = self._more(kind, call.ended_us)
        if more is None:
            return
        log.log(
            level, "a call failed: %s at %s: %s: %s%s",
            contract.called(
                call.service.name, call.json, call.body[:min(call.body_length, METHOD_WITHIN)]
            ),
            "no endpoint" if call.failed_at is None else call.failed_at.address, name,
            message if name in contract.REASON_IS_OURS else "as the provider says", more,
            extra={"kind": kind},
        )
