"""A kept connection to a server, and the calls that are sent over it or wait for room there.

``rpc.client`` is built on this. Calls go out as the server's credits and the client's own limits
allow. After a loss the ``rpc.link`` connects again, and those that wait go on when it has.

Invariant: what waits is sent in the order in which it was made.
"""

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint16_t, uint32_t

from dragoman.budget cimport Budget
from dragoman.rpc.calls cimport Account, ClientCall
from dragoman.rpc.client_base cimport NOTIFICATION
from dragoman.rpc.client_session cimport ClientSession
from dragoman.wire.mesh cimport FEATURE_METADATA, FEATURE_NO_REPLY, FEATURE_ORDER

import logging
import os

from dragoman.errors import (
    ConnectError, LimitError, LinkLostError, OverloadError, UnavailableError, UsageError, marked,
)
from dragoman.observe.faults import log_fault
from dragoman.rpc.link import Link

log = logging.getLogger("dragoman.rpc")

cdef uint32_t TIMEOUT_MS_NONE = 0xFFFFFFFF


cdef class Connection(Account):
    """The connection of one client; ``options`` are ``ClientOptions``."""

    def __init__(self, loop, options):
        limits = options.limits
        self._options = options
        self.address = options.address
        self.endpoint = str(options.address)
        self._reconnect = options.reconnect
        self._calls_max = limits.calls_max
        self._bytes_max = limits.bytes_max
        self.budget = Budget(limits.held_bytes_max)
        self._identity = os.urandom(16)
        self._ids = {}
        self._link = Link(
            loop, options.address, self._new_session, self._on_down,
            tls=options.tls, server_hostname=options.server_hostname,
        )

    cdef int send(self, ClientCall call) except -1:
        """Send a call, or as much of it as there is room for, or have it fail."""
        cdef ClientSession session = self.session
        cdef uint32_t timeout_ms = TIMEOUT_MS_NONE
        cdef int64_t left_us
        cdef uint16_t target
        cdef Py_ssize_t largest = max(call.body_bytes, call.largest)
        if largest > <Py_ssize_t>session.peer_body_bytes_max:
            call.refuse(LimitError(
                f"a body of {largest} bytes, {self.endpoint} takes {session.peer_body_bytes_max}",
                endpoint=self.endpoint, retry_safe=True,
            ))
            return 0
        if not session.has_room(largest):
            call.refuse(OverloadError(
                f"no memory is left for a body of {largest} bytes to {self.endpoint}",
                endpoint=self.endpoint, retry_safe=True,
            ))
            return 0
        if call.order_key is not None and not session.peer_features & FEATURE_ORDER:
            call.refuse(UsageError(f"{self.endpoint} does not offer ordered calls"))
            return 0
        if call.metadata is not None and not session.peer_features & FEATURE_METADATA:
            call.refuse(UsageError(f"{self.endpoint} does not take metadata"))
            return 0
        if call.style == NOTIFICATION and not session.peer_features & FEATURE_NO_REPLY:
            call.refuse(UsageError(f"{self.endpoint} does not offer calls without reply"))
            return 0
        if call.due_us:
            left_us = call.due_us - self.tick.now_us()
            timeout_ms = <uint32_t>(left_us // 1000) if left_us >= 1000 else 1
        try:
            target = self._method_id(call.method)
        except UsageError as error:
            # There are no ids left. Whoever stands in line behind this call is not to suffer.
            call.refuse(error)
            return 0
        return call.send(session, target, timeout_ms)

    cdef uint16_t _method_id(self, method) except 0:
        cdef PyObject* known
        if method is self._method:
            return self._target
        known = PyDict_GetItem(self._ids, method)
        if known == NULL:
            self._ids[method] = self.session.method_id(method.encode())
            known = PyDict_GetItem(self._ids, method)
        self._target = <object>known
        self._method = method
        return self._target

    cdef void _drain(self):
        """Send those that wait in line, in their order, as far as there is room."""
        cdef ClientCall call
        cdef Py_ssize_t unsent
        if self._in_drain:
            return
        self._in_drain = True
        try:
            while self._first is not None and self.fits(self._first.body_bytes):
                call = self._first
                call.unwanted()
                if not call.in_line:
                    # It was cancelled a moment ago.
                    continue
                unsent = call.unsent
                self.send(call)
                if call.in_line and call.unsent == unsent:
                    # A batch, for whose next body there is no room.
                    break
        except Exception as error:
            log_fault(log, error, "%s: calls that wait could not be sent", self.endpoint)
        finally:
            self._in_drain = False
        if self.session is not None:
            self.tell_wanted()

    cdef void tell_wanted(self):
        """Tell the server how many requests wait for its credit."""
        self.session.tell_waiting(min(self.wanted, self._calls_max - self.calls))

    cdef void sweep_calls(self):
        cdef ClientCall call = self._first
        cdef ClientCall behind
        cdef ClientSession session
        while call is not None:
            behind = call._behind
            call.unwanted()
            call = behind
        for session in self._leaving:
            session.sweep()
        if self.session is not None:
            self.session.sweep()
            self._drain()
        self.sweep_again(self.calls + self.waiting)
        self.check_idle()

    cdef void check_idle(self):
        """Whoever closes the client waits for this."""
        if self._idle is not None and self.calls == 0 and self.waiting == 0 \
                and not self._idle.done():
            self._idle.set_result(None)

    def _new_session(self):
        return ClientSession(
            self.loop, self, name=self._options.name, identity=self._identity,
            body_bytes_max=self._options.limits.body_bytes_max,
            heartbeat_s=self._options.limits.heartbeat_ms / 1000, budget=self.budget,
        )

    def _on_down(self, str reason):
        """No connection could be made."""
        self._down(ConnectError(f"{self.endpoint}: {reason}", endpoint=self.endpoint), reason)

    cdef void _down(self, error, str reason):
        """There is no connection, for this reason."""
        if self.reason != reason:
            log.warning("%s: %s", self.endpoint, reason)
        self.reason = reason
        if self._first_up is not None and not self._first_up.done():
            self._first_up.set_exception(error)
        if not self._reconnect:
            self.closed = True
            self._link.abandon()
            self.fail_line(error)

    cdef void fail_line(self, error):
        """Every call in line fails with ``error``; none of it, or of a batch its rest, was sent."""
        cdef ClientCall call
        error = marked(error, retry_safe=True)
        while self._first is not None:
            # Held here: once it has left the line perhaps nobody else does.
            call = self._first
            call.refuse(error)
        self.check_idle()

    cdef void on_ready(self, ClientSession session):
        if self.closed:
            session.close()
            return
        self._ids.clear()
        self._method = None
        self.session = session
        self._up = False

    cdef void on_credit(self, ClientSession session):
        if session is self.session and not session.closed:
            if not self._up:
                # Only now is it sure that the server does not send us away.
                self._up = True
                self.reason = None
                self.connections += 1
                self._link.held()
                if self._first_up is not None and not self._first_up.done():
                    self._first_up.set_result(None)
            if self._first is not None:
                self._drain()
            elif session._told_waiting:
                session.tell_waiting(0)
        if self._idle is not None:
            self.check_idle()

    cdef void on_goodbye(self, ClientSession session):
        cdef str why = session.goodbye_reason or "the server shuts down"
        if session is self.session:
            # Others take its place; what is under way there is still answered.
            self.session = None
            self._leaving.add(session)
            self._down(UnavailableError(f"{self.endpoint}: {why}", endpoint=self.endpoint), why)
            self._link.lost()

    cdef void on_lost(self, ClientSession session):
        cdef object failure = session.failure
        if session in self._leaving:
            self._leaving.discard(session)
        else:
            if session is self.session:
                self.session = None
            elif type(failure) is LinkLostError:
                # It never came to a session.
                failure = ConnectError(str(failure), endpoint=self.endpoint)
            if not self._closing or not self._reconnect:
                self._down(failure, str(failure))
            self._link.lost()
        self.check_idle()
