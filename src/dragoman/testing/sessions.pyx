"""Sessions for Python callers: bytes in, bytes out, ordinary callables as callbacks.

``rpc.client_session`` and ``rpc.server_session`` speak C to hot paths; here the same classes take
Python functions. ``send`` makes a call on a ``ClientSession``, ``SessionEvents`` hears of its life,
and ``RequestHandler`` hands a server's requests, each an ``IncomingRequest``, to a function. Used
by programs that use the mesh protocol directly, and by the tests.

Invariants: a call ends exactly once, in ``on_reply``, in ``on_error`` or by ``cancel``; a request's
credit goes back when it has been answered, not when its caller has stopped waiting; a callback that
raises harms nobody else.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint16_t, uint32_t

from dragoman.rpc.client_session cimport Call, ClientSession, SessionOwner
from dragoman.rpc.server_session cimport Handler, ServerSession

from dragoman.errors import (
    Code, DragomanError, LimitError, LinkLostError, OverloadError, ProtocolError, UsageError,
    from_code,
)
from dragoman.rpc.ending import reported

# The longest time to answer that the protocol can say: 49 days, which is "no deadline".
cdef uint32_t TIMEOUT_MS_MAX = 0xFFFFFFFF


cdef int _report(loop, str what, error) except -1:
    reported(loop, what, error)
    return 0


cdef class OutgoingCall(Call):
    """A call made by ``send``. ``done`` tells whether it has ended."""

    cdef void _end(self):
        self.done = True
        if self._wheel is not None:
            self._wheel.cancel(self)

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        self._end()
        try:
            self._on_reply(owner if owner is not None and len(owner) == n else body[:n])
        except BaseException as error:
            _report(self._loop, "a call's on_reply raised", error)

    cdef void on_error(self, int code, bint retry_safe, str message):
        self._end()
        try:
            self._on_error(from_code(code, message, retry_safe=retry_safe, endpoint=self._endpoint))
        except BaseException as error:
            _report(self._loop, "a call's on_error raised", error)

    cdef void on_due(self):
        cdef ClientSession session = self.session
        if session is not None:
            session.abandon(self)
        self.on_error(Code.DEADLINE, False, "no reply within the time allowed")

    def cancel(self):
        """Stop waiting: no callback follows, and the server is told. Does nothing once the call has
        ended.
        """
        cdef ClientSession session = self.session
        if self.done:
            return
        self._end()
        if session is not None:
            session.abandon(self)


def send(
    ClientSession session not None, bytes method not None, bytes body not None, on_reply, on_error,
    *, timeout_ms=None,
):
    """Call ``method`` with ``body``; exactly one callback follows: ``on_reply(bytes)`` or
    ``on_error(DragomanError)``.

    ``timeout_ms`` (1 or more; None: no deadline) bounds the wait and travels to the server. Nothing
    waits here for credit: raises OverloadError when ``session.credits`` is 0 or too many bytes
    gather, LinkLostError (retry_safe) when the session is not open, LimitError when the peer does
    not take so long a body, UsageError for arguments that cannot be sent.
    """
    cdef OutgoingCall call
    cdef uint32_t timeout = TIMEOUT_MS_MAX
    if not 1 <= len(method) <= 1024:
        raise UsageError(f"a method's name has 1 to 1024 bytes, not {len(method)}")
    if timeout_ms is not None:
        if not 1 <= timeout_ms <= TIMEOUT_MS_MAX:
            raise UsageError(f"timeout_ms must be 1 to {TIMEOUT_MS_MAX}, not {timeout_ms}")
        timeout = timeout_ms
    if not session.ready or session.goodbye_received:
        raise LinkLostError(
            f"the session with {session.peer} is not open", endpoint=session.peer, retry_safe=True
        )
    if len(body) > session.peer_body_bytes_max:
        raise LimitError(
            f"a request of {len(body)} bytes, {session.peer} takes {session.peer_body_bytes_max}",
            endpoint=session.peer, retry_safe=True,
        )
    if session.room() <= 0:
        raise OverloadError(f"no credit at {session.peer}", endpoint=session.peer)
    call = OutgoingCall.__new__(OutgoingCall)
    call._on_reply = on_reply
    call._on_error = on_error
    call._loop = session.loop
    call._endpoint = session.peer
    session.submit(call, session.method_id(method), PyBytes_AS_STRING(body), len(body), timeout)
    if timeout_ms is not None:
        session.tick.wheel.schedule(call, session.tick.wheel.clock_us() + <int64_t>timeout * 1000)
    return call


def tell_waiting(ClientSession session not None, int waiting):
    """Tell the server that ``waiting`` requests wait for its credit (sent only if it changes much).
    """
    session.tell_waiting(waiting)


cdef class SessionEvents(SessionOwner):
    """Hears of a client session's life through functions that take the session; each may be None.

    ``on_ready``: the handshake is done; ``on_credit``: after each read, credits or replies may have
    come; ``on_goodbye``: the server drains; ``on_lost``: the connection has ended and so have its
    calls.
    """

    def __init__(self, *, on_ready=None, on_credit=None, on_goodbye=None, on_lost=None):
        self._ready = on_ready
        self._credit = on_credit
        self._goodbye = on_goodbye
        self._lost = on_lost

    cdef void on_ready(self, ClientSession session):
        _tell(self._ready, session)

    cdef void on_credit(self, ClientSession session):
        _tell(self._credit, session)

    cdef void on_goodbye(self, ClientSession session):
        _tell(self._goodbye, session)

    cdef void on_lost(self, ClientSession session):
        _tell(self._lost, session)


cdef int _tell(listener, ClientSession session) except -1:
    if listener is not None:
        try:
            listener(session)
        except BaseException as error:
            _report(session.loop, "a session's listener raised", error)
    return 0


cdef class IncomingRequest(Timed):
    """One request at the server: ``method``, ``body``, ``timeout_ms``, its ``session`` and ``id``.

    Answer it once, with ``reply`` or ``fail``, now or later. ``unwanted`` becomes true when the
    caller no longer waits (cancelled, past the deadline, or gone): the work may stop then, but is
    still ended with ``reply`` or ``fail``, which frees its place without sending anything.
    """

    def __init__(self):
        raise UsageError("requests are made by a RequestHandler")

    def reply(self, bytes body not None):
        """Send the result. Raises UsageError the second time."""
        cdef int credits = self._free()
        if not self.unwanted:
            self.session.reply(self.id, PyBytes_AS_STRING(body), len(body), credits)
        elif credits:
            self.session.credit(credits)

    def fail(self, error not None):
        """Send an error: a DragomanError's code, text and ``retry_safe``; anything else is the
        callee's failure.

        Raises UsageError the second time.
        """
        cdef int credits = self._free()
        if self.unwanted:
            if credits:
                self.session.credit(credits)
        elif isinstance(error, DragomanError):
            self.session.error(self.id, error.code, error.retry_safe, str(error), credits)
        else:
            self.session.error(
                self.id, Code.REMOTE, False, f"{type(error).__name__}: {error}", credits
            )

    cdef int _free(self) except -1:
        """The place is free: how many credits go back."""
        cdef dict requests
        if self.answered:
            raise UsageError("a request is answered once")
        self.answered = True
        if self._wheel is not None:
            self._wheel.cancel(self)
        requests = self._handler._open.get(self.session)
        if requests is not None:
            requests.pop(self.id, None)
        self._handler.in_progress -= 1
        return self.session.pool.done(self.session.holder)

    cdef void _forsake(self):
        """Nobody waits any more."""
        self.unwanted = True
        if self._wheel is not None:
            self._wheel.cancel(self)
        if self._handler._on_unwanted is not None:
            try:
                self._handler._on_unwanted(self)
            except BaseException as error:
                _report(self.session.loop, "a handler's on_unwanted raised", error)

    cdef void on_due(self):
        if not self.answered and not self.unwanted:
            self.session.error(
                self.id, Code.DEADLINE, False, "not answered within the time allowed", 0
            )
            self._forsake()


cdef class RequestHandler(Handler):
    """Hands each request of any number of server sessions to ``on_request(IncomingRequest)``.

    What ``on_request`` raises is the answer (see ``IncomingRequest.fail``). ``methods`` names those
    that exist, as bytes; None takes every name. ``on_unwanted(IncomingRequest)`` hears when a
    caller no longer waits. ``in_progress`` counts requests that have not been answered, also those
    of callers that are gone.
    """

    def __init__(self, on_request, *, methods=None, on_unwanted=None):
        self._on_request = on_request
        self._on_unwanted = on_unwanted
        self._any = methods is None
        self._names = list(methods or ())
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._open = {}

    cdef int method(self, bytes name) except -1:
        known = self._numbers.get(name)
        if known is None:
            if not self._any:
                return -2
            known = self._numbers[name] = len(self._names)
            self._names.append(name)
        return known

    cdef bint on_request(
        self, ServerSession session, uint32_t id, uint16_t method, uint32_t timeout_ms,
        const char* body, Py_ssize_t n, bytes owner
    ) except -1:
        cdef IncomingRequest request
        cdef dict requests = self._open.get(session)
        if requests is None:
            requests = self._open[session] = {}
        elif id in requests:
            session.pool.done(session.holder)
            raise ProtocolError(f"request id {id} is in use")
        request = IncomingRequest.__new__(IncomingRequest)
        request._handler = self
        request.session = session
        request.id = id
        request.method = self._names[method]
        request.body = owner if owner is not None and len(owner) == n else body[:n]
        request.timeout_ms = timeout_ms
        requests[id] = request
        self.in_progress += 1
        if timeout_ms != TIMEOUT_MS_MAX:
            session.tick.wheel.schedule(
                request, session.tick.wheel.clock_us() + <int64_t>timeout_ms * 1000
            )
        try:
            self._on_request(request)
        except BaseException as error:
            if request.answered:
                _report(session.loop, "a handler raised after it had answered", error)
            else:
                request.fail(error)
        return True

    cdef void on_cancel(self, ServerSession session, uint32_t id):
        cdef dict requests = self._open.get(session)
        cdef IncomingRequest request = requests.get(id) if requests is not None else None
        if request is not None and not request.unwanted:
            session.error(id, Code.CANCELLED, False, "cancelled by the caller", 0)
            request._forsake()

    cdef void on_lost(self, ServerSession session):
        cdef IncomingRequest request
        cdef dict requests = self._open.pop(session, None)
        if requests is None:
            return
        for request in list(requests.values()):
            if not request.unwanted:
                request._forsake()
