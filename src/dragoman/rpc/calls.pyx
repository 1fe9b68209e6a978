"""The calls of a client: those in line, those under way, and how each of them ends.

An ``Account`` counts what a client has outstanding and keeps the line of calls that wait for room;
``rpc.connection`` is built on it. A ``ClientCall`` is one request, in any ``Style`` of calling; a
``BatchCall`` is many requests with one future.

Invariants: a call ends exactly once, and is counted in ``waiting`` while it stands in line, in
``calls`` and ``bytes`` while its requests are unanswered, else nowhere; the line keeps the order in
which calls were made.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free

from dragoman.rpc.client_base cimport AWAITED, CALLBACK, NOTIFICATION, ClientBase, end_call
from dragoman.rpc.client_session cimport Call, ClientSession

from dragoman.errors import DeadlineError, from_code, marked
from dragoman.rpc.ending import reported


cdef class Account(ClientBase):
    """The calls of one client. ``session`` is the connection that takes new ones, or None."""

    def __cinit__(self, *args, **kwargs):
        self._leaving = set()

    cdef inline void ended(self, bint well) noexcept:
        """A request has been answered, or has failed after it was sent."""
        self.calls -= 1
        if well:
            self.replies += 1
        else:
            self.failures += 1

    cdef void line_up(self, ClientCall call) noexcept:
        """``call`` waits for room, behind those that wait already."""
        call.in_line = True
        call._ahead = self._last
        call._behind = None
        if self._last is None:
            self._first = call
        else:
            self._last._behind = call
        self._last = call
        self.waiting += 1
        self.wanted += <int>call.unsent
        self.waiting_bytes += call.body_bytes

    cdef void withdraw(self, ClientCall call) noexcept:
        """``call`` waits no longer."""
        if not call.in_line:
            return
        call.in_line = False
        if call._ahead is None:
            self._first = call._behind
        else:
            call._ahead._behind = call._behind
        if call._behind is None:
            self._last = call._ahead
        else:
            call._behind._ahead = call._ahead
        call._ahead = None
        call._behind = None
        self.waiting -= 1
        self.wanted -= <int>call.unsent
        self.waiting_bytes -= call.body_bytes


cdef class ClientCall(Call):
    """One call of a client. ``body_bytes`` are what it is charged with, ``largest`` its largest
    body, ``unsent`` how many of its requests have not been sent.
    """

    cdef inline void begin(
        self, Account account, str method, Py_ssize_t n, Py_ssize_t count, int64_t due_us
    ):
        """Made by ``account``, with ``count`` requests; to end by ``due_us`` of the wheel, or
        whenever if that is 0.
        """
        # One that is used again has mostly the same; to store an object costs more than to look.
        if self.account is not account:
            self.account = account
        if self.method is not method:
            self.method = method
        self.body_bytes = n
        self.unsent = count
        self.due_us = due_us
        self.done = False
        if due_us:
            account.tick.wheel.schedule(self, due_us)

    cdef int send(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        """Submit its requests, as many as there is room for (there is room for one); afterwards
        ``unsent`` are left, none but for a batch.
        """
        cdef bytes body = self.body
        if self.in_line:
            self.account.withdraw(self)
        # First counted, then sent: what is sent may fail at once.
        self.body = None
        self.unsent = 0
        self.account.sent += 1
        if self.style == NOTIFICATION:
            # When it is sent it has ended.
            self.done = True
            if self._wheel is not None:
                self._wheel.cancel(self)
            return session.notify(target, body, timeout_ms, self.order_key, self.metadata)
        self.account.calls += 1
        self.account.bytes += self.body_bytes
        return session.submit_body(self, 0, target, body, timeout_ms, self.order_key)

    cdef void fail(self, error):
        """The error to the caller."""
        if self.style == NOTIFICATION:
            # Whoever makes it looks at this when it has been made; later nobody does.
            self.to = error
        else:
            end_call(self.account.loop, self.style, self.to, None, error)

    cdef void refuse(self, error):
        """It fails before any of it was sent."""
        self.done = True
        if self._wheel is not None:
            self._wheel.cancel(self)
        self.account.withdraw(self)
        self.account.refused += 1
        self.fail(error)

    cdef inline void _recycle(self) noexcept:
        """It has ended, and nobody else holds it."""
        self.to = None
        if self.order_key is not None:
            self.order_key = None
        if self.metadata is not None:
            self.metadata = None
        self.account.recycle(self)

    cdef inline void _finish(self, bint well):
        cdef Account account = self.account
        self.done = True
        if self._wheel is not None:
            self._wheel.cancel(self)
        if self.in_line:
            account.withdraw(self)
            account.failures += 1
        else:
            account.bytes -= self.body_bytes
            account.ended(well)

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        if owner is None or PyBytes_GET_SIZE(owner) != n:
            owner = PyBytes_FromStringAndSize(body, n)
        self._finish(True)
        if self.style == CALLBACK:
            # As ``end_call`` does it, without the detours: these are millions a second.
            try:
                self.to(owner, None)
            except BaseException as error:
                reported(self.account.loop, "a call's callback raised", error)
        else:
            end_call(self.account.loop, self.style, self.to, owner, None)
        self._recycle()

    cdef void on_error(self, int code, bint retry_safe, str message):
        self._finish(False)
        self.fail(from_code(
            code, message, retry_safe=retry_safe, endpoint=self.account.endpoint
        ))
        self._recycle()

    cdef void on_due(self):
        """Its time has passed, in line or under way."""
        cdef ClientSession session = self.session
        cdef bint sent = not self.in_line
        if session is not None:
            session.abandon(self)
        self._finish(False)
        self.fail(DeadlineError(
            "no reply within the time allowed" if sent else "no room within the time allowed",
            retry_safe=not sent,
        ))

    cdef bint unwanted(self):
        """The caller has cancelled it: it ends here."""
        if self.style != AWAITED or not self.to.cancelled():
            return False
        self._finish(False)
        return True


cdef class BatchCall(ClientCall):
    """Many requests of one method with one future, that of ``gathered``."""

    def __cinit__(self):
        self.ids = NULL

    def __dealloc__(self):
        free(self.ids)

    cdef int send(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        cdef Account account = self.account
        cdef Py_ssize_t first = PyList_GET_SIZE(self.bodies) - self.unsent
        cdef Py_ssize_t most = min(session.room(), account._calls_max - account.calls)
        cdef Py_ssize_t end = first
        cdef int64_t n = 0
        cdef Py_ssize_t size
        if self.ids == NULL:
            self.ids = <uint32_t*>calloc(PyList_GET_SIZE(self.bodies), sizeof(uint32_t))
            if self.ids == NULL:
                raise MemoryError
        if most > self.unsent:
            most = self.unsent
        while end - first < most:
            size = PyBytes_GET_SIZE(<object>PyList_GET_ITEM(self.bodies, end))
            if account.bytes + n + size > account._bytes_max and (n or account.calls):
                break
            if n and session.gathered() + <size_t>n > session.out_bytes_max // 2:
                # More than that is not to gather: the rest goes when this has left.
                break
            n += size
            end += 1
        # First counted, then sent: what is sent may fail at once.
        if self.in_line:
            account.wanted -= <int>(end - first)
        self.unsent -= end - first
        account.calls += <int>(end - first)
        account.bytes += n
        account.sent += end - first
        if self.unsent == 0:
            account.withdraw(self)
        if self.order_key is None and self.metadata is None:
            return session.submit_many(
                self, self.bodies, first, end, target, timeout_ms, self.ids
            )
        while first < end:
            session.submit_body(
                self, <uint32_t>first, target, <bytes>PyList_GET_ITEM(self.bodies, first),
                timeout_ms, self.order_key,
            )
            self.ids[first] = self.id
            first += 1
        return 0

    cdef inline void _one_ended(self, bint well):
        cdef Account account = self.account
        self.ids[self.index] = 0
        account.bytes -= PyBytes_GET_SIZE(<object>PyList_GET_ITEM(self.bodies, self.index))
        account.ended(well)
        self.gathered.unanswered -= 1
        if self.gathered.unanswered == 0:
            self._settle()

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        if self.done:
            return
        if not self.gathered.admits(n):
            self.gathered.failed(self.index, self.gathered.refusal(n, self.account.endpoint))
            self._one_ended(False)
            return
        if owner is None or PyBytes_GET_SIZE(owner) != n:
            owner = PyBytes_FromStringAndSize(body, n)
        self.gathered.replies[self.index] = owner
        self._one_ended(True)

    cdef void on_error(self, int code, bint retry_safe, str message):
        if self.done:
            return
        self.gathered.failed(self.index, from_code(
            code, message, retry_safe=retry_safe, endpoint=self.account.endpoint
        ))
        self._one_ended(False)

    cdef void _settle(self):
        """Every request has ended."""
        self.done = True
        if self._wheel is not None:
            self._wheel.cancel(self)
        self.gathered.settle()

    cdef void _abandon_all(self):
        """Forget the requests that are under way; those in line are not sent."""
        cdef Account account = self.account
        cdef ClientSession session
        cdef Py_ssize_t i
        cdef list sessions = list(account._leaving)
        if account.session is not None:
            sessions.append(account.session)
        for i in range(PyList_GET_SIZE(self.bodies) - self.unsent):
            if self.ids[i]:
                account.bytes -= PyBytes_GET_SIZE(<object>PyList_GET_ITEM(self.bodies, i))
                account.ended(False)
                for session in sessions:
                    session.abandon_id(self, self.ids[i])
                self.ids[i] = 0
        account.withdraw(self)

    cdef void fail(self, error):
        """Everything that is not answered yet fails with ``error``."""
        cdef Py_ssize_t count = PyList_GET_SIZE(self.bodies)
        cdef Py_ssize_t i
        if self.unsent == count:
            self.done = True
            self.account.withdraw(self)
            if not self.gathered.future.done():
                self.gathered.future.set_exception(error)
            return
        # Requests that were sent may have run, others have not, whatever became of the rest.
        sent = marked(error, retry_safe=False)
        unsent = marked(error, retry_safe=True)
        for i in range(count):
            if i >= count - self.unsent:
                self.gathered.failed(i, unsent)
            elif self.ids[i]:
                self.gathered.failed(i, sent)
        self._abandon_all()
        self._settle()

    cdef void on_due(self):
        cdef bint sent = self.unsent < PyList_GET_SIZE(self.bodies)
        self.fail(DeadlineError(
            "no reply within the time allowed" if sent else "no room within the time allowed",
            retry_safe=not sent,
        ))

    cdef bint unwanted(self):
        # Each of its requests is asked in turn; the first ends them all.
        if self.gathered.future.cancelled() and not self.done:
            self.done = True
            if self._wheel is not None:
                self._wheel.cancel(self)
            self._abandon_all()
            self.gathered.drop()
        return False
