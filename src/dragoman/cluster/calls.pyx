"""The calls of a pool: how each goes out, and how it ends.

Each kind is a ``ServiceCall`` that ``cluster.pool`` submits to its service: a ``FutureCall``
(awaited), a ``CallbackCall``, a ``Notification`` (no reply), or the ``BatchItem``s of a ``Batch``,
each of which finds a server of its own.

Invariants: a call ends exactly once; of a batch at most one item stands in line for the others,
unless the batch is ordered.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport uint16_t, uint32_t

from dragoman.budget cimport Budget
from dragoman.cluster.line cimport Line, ServiceCall
from dragoman.cluster.service cimport Service
from dragoman.rpc.calls cimport FREE_MAX, SMALL_BYTES, report_raised
from dragoman.rpc.client_session cimport ClientSession

from asyncio import InvalidStateError

from dragoman.errors import BatchError, DeadlineError, OverloadError, from_code
from dragoman.rpc.calls import NO_ROOM



cdef class Account:
    """The state that the calls of one pool share."""

    def __cinit__(self, loop, *args, **kwargs):
        self.loop = loop
        self._futures = []
        self._callbacks = []


cdef class PoolCall(ServiceCall):
    """A call made through a pool; its ``body_owner`` is its body."""

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        return session.submit_body(
            self, 0, target, self.body_owner, timeout_ms, self.order_key
        )

    cdef object error_of(self, int code, str message):
        """The failure as an error."""
        self.account.failures += 1
        return from_code(
            code, message, retry_safe=self.never_ran,
            endpoint=self.failed_at.address if self.failed_at is not None else None,
        )

    cdef bint forgotten(self):
        """Whether its caller has gone."""
        return False

    cdef bint unwanted(self):
        cdef Line service = self.service
        if not self.forgotten():
            return False
        # As ``withdraw``, but the session that asks lets go of the request itself.
        if self._wheel is not None:
            self._wheel.cancel(self)
        self.again = False
        if self.in_line:
            service.leave_line(self)
        if self.endpoint is not None:
            self._left(self.endpoint)
            self.endpoint = None
        self.account.failures += 1
        return True


cdef inline bytes whole(const char* body, Py_ssize_t n, bytes owner):
    """A reply as an object."""
    if owner is not None and PyBytes_GET_SIZE(owner) == n:
        return owner
    return PyBytes_FromStringAndSize(body, n)


cdef class FutureCall(PoolCall):
    """A call whose caller awaits ``future``."""

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        cdef Account account = self.account
        account.replies += 1
        try:
            self.future.set_result(whole(body, n, owner))
        except InvalidStateError:
            # Cancelled a moment ago.
            pass
        self.future = None
        self.body_owner = None
        self.order_key = None
        self.metadata = None
        self.lane = None
        self.failed_at = None
        if PyList_GET_SIZE(account._futures) < FREE_MAX:
            account._futures.append(self)

    cdef void on_failure(self, int code, str message):
        error = self.error_of(code, message)
        if not self.future.done():
            self.future.set_exception(error)

    cdef bint forgotten(self):
        return self.future is not None and self.future.cancelled()


cdef class CallbackCall(PoolCall):
    """A call that ends in ``callback(reply, error)``, one of which is None."""

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        cdef Account account = self.account
        cdef object callback = self.callback
        account.replies += 1
        self.callback = None
        self.body_owner = None
        self.order_key = None
        self.metadata = None
        self.lane = None
        self.failed_at = None
        if PyList_GET_SIZE(account._callbacks) < FREE_MAX:
            account._callbacks.append(self)
        try:
            callback(whole(body, n, owner), None)
        except BaseException as raised:
            report_raised(account.loop, raised)

    cdef void on_failure(self, int code, str message):
        try:
            self.callback(None, self.error_of(code, message))
        except BaseException as raised:
            report_raised(self.account.loop, raised)


cdef class Notification(PoolCall):
    """A request without a reply; when it is sent it has ended."""

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        return session.notify(
            target, self.body_owner, timeout_ms, self.order_key, self.metadata
        )

    cdef void on_failure(self, int code, str message):
        """Whoever makes it looks at ``error`` when it has been made; later nobody does."""
        self.error = self.error_of(code, message)


cdef class BatchItem(PoolCall):
    """One request of a batch."""

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        PoolCall.put(self, session, target, timeout_ms)
        if self.batch.delegate is self:
            self.batch.go_on()
        return 0

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        self.account.replies += 1
        self.batch.ended(self, whole(body, n, owner), None)

    cdef void on_failure(self, int code, str message):
        self.batch.ended(self, None, self.error_of(code, message))

    cdef bint forgotten(self):
        if not self.batch.future.cancelled():
            return False
        self.batch.drop()
        return True


cdef class Batch:
    """Many requests of one method with one future: the list of replies in the order of ``bodies``,
    or BatchError, which has them and the errors by index. ``made`` of the requests exist so far;
    ``delegate`` is the one that waits in line for them all.
    """

    cdef void begin(self):
        """Make the requests, or as many as there is room for."""
        cdef Py_ssize_t count = PyList_GET_SIZE(self.bodies)
        self.replies = [None] * count
        self.unanswered = count
        self.account._service.more += count
        self.feed()

    cdef BatchItem _item(self):
        cdef BatchItem item = BatchItem.__new__(BatchItem)
        cdef bytes body = <bytes>PyList_GET_ITEM(self.bodies, self.made)
        item.account = self.account
        item.batch = self
        item.number = <uint32_t>self.made
        item.method = self.method
        item.body_owner = body
        item.body = PyBytes_AS_STRING(body)
        item.body_length = PyBytes_GET_SIZE(body)
        item.order_key = self.order_key
        item.metadata = self.metadata
        item.started_us = self.account._service.tick.now_us()
        item.due_us = self.due_us
        # One for all has found a place.
        item.patient = self.made > 0
        self.made += 1
        self.account._service.more -= 1
        return item

    cdef void feed(self):
        """Make requests until one has to wait, or all if they are ordered."""
        cdef Service service = self.account._service
        cdef Py_ssize_t count = PyList_GET_SIZE(self.bodies)
        cdef BatchItem item
        while self.made < count:
            if self.due_us and service.tick.wheel.clock_us() >= self.due_us and self.made:
                self._give_up(DeadlineError("no room within the time allowed", retry_safe=True))
                return
            item = self._item()
            service.submit(item)
            if self.made == 1 and self.errors is not None and item.never_ran:
                # Refused at once, and so is the batch.
                error = self.errors[0]
                self.drop()
                self.future.set_exception(error)
                return
            if item.in_line and self.order_key is None:
                item.patient = True
                self.delegate = item
                return

    cdef void go_on(self):
        """The delegate waits no longer: the next one's turn, soon."""
        self.delegate = None
        if self.made < PyList_GET_SIZE(self.bodies):
            self.account.loop.call_soon(_feed, self)

    cdef void _give_up(self, error):
        """End the requests that have not been made."""
        cdef Py_ssize_t i
        if self.errors is None:
            self.errors = {}
        for i in range(self.made, PyList_GET_SIZE(self.bodies)):
            self.errors[i] = error
            self.unanswered -= 1
            self.account.failures += 1
        self.drop()
        self._settle()

    cdef void drop(self):
        """Make no more requests."""
        self.account._service.more -= PyList_GET_SIZE(self.bodies) - self.made
        self.made = PyList_GET_SIZE(self.bodies)

    cdef void ended(self, BatchItem item, bytes reply, error):
        """A request has ended."""
        if error is None and not self._keep(PyBytes_GET_SIZE(reply)):
            error = OverloadError(NO_ROOM.format(PyBytes_GET_SIZE(reply)))
        if error is None:
            self.replies[item.number] = reply
        else:
            if self.errors is None:
                self.errors = {}
            self.errors[item.number] = error
            if self.delegate is item:
                self.go_on()
        self.unanswered -= 1
        self._settle()

    cdef bint _keep(self, Py_ssize_t n) noexcept:
        """Whether there is room for a reply until the last one has come."""
        cdef Budget budget = self.account._service.peers.budget
        if n <= SMALL_BYTES:
            return True
        if not budget.admits(n):
            return False
        budget.take(n)
        self.retained_bytes += n
        return True

    cdef void _settle(self):
        """The future ends with the last request."""
        if self.future.done():
            # Cancelled: what has come is nobody's.
            self._hand_over()
            self.replies = [None] * PyList_GET_SIZE(self.replies)
            return
        if self.unanswered:
            return
        self._hand_over()
        if self.errors is None:
            self.future.set_result(self.replies)
        else:
            self.future.set_exception(BatchError(self.replies, self.errors))

    cdef inline void _hand_over(self) noexcept:
        """The replies are the caller's from now on, or nobody's."""
        (<Budget>self.account._service.peers.budget).give(self.retained_bytes)
        self.retained_bytes = 0


def _feed(Batch batch):
    if batch.delegate is None:
        batch.feed()
