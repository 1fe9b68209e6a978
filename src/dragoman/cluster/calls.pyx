"""The calls of a pool: how each goes out, and how it ends.

Each is a ``ServiceCall`` that ``cluster.pool`` submits to its service: a ``PoolCall`` in any
``Style`` of calling, or the ``BatchItem``s of a ``Batch``, each of which finds a server of its own.

Invariants: a call ends exactly once; of a batch at most one item stands in line for the others,
unless the batch is ordered.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport uint16_t, uint32_t

from dragoman.cluster.line cimport Line, ServiceCall
from dragoman.cluster.service cimport Service
from dragoman.rpc.batch cimport BatchReplies
from dragoman.rpc.client_base cimport AWAITED, NOTIFICATION, ClientBase, end_call
from dragoman.rpc.client_session cimport ClientSession

from dragoman.errors import DeadlineError, from_code


cdef class Account(ClientBase):
    """The state that the calls of one pool share."""


cdef class PoolCall(ServiceCall):
    """A call made through a pool; its ``body_owner`` is its body."""

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        if self.style == NOTIFICATION:
            return session.notify(
                target, self.body_owner, timeout_ms, self.order_key, self.metadata
            )
        return session.submit_body(
            self, 0, target, self.body_owner, timeout_ms, self.order_key
        )

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        cdef Account account = self.account
        cdef object to = self.to
        account.replies += 1
        self.to = None
        self.body_owner = None
        self.order_key = None
        self.metadata = None
        self.lane = None
        self.failed_at = None
        # First recycled: a callback that makes the next call uses it again.
        account.recycle(self)
        end_call(account.loop, self.style, to, whole(body, n, owner), None)

    cdef void on_failure(self, int code, str message):
        error = self.error_of(code, message)
        if self.style == NOTIFICATION:
            # Whoever makes it looks at this when it has been made; later nobody does.
            self.to = error
        else:
            end_call(self.account.loop, self.style, self.to, None, error)

    cdef object error_of(self, int code, str message):
        """The failure as an error."""
        self.account.failures += 1
        return from_code(
            code, message, retry_safe=self.never_ran,
            endpoint=self.failed_at.address if self.failed_at is not None else None,
        )

    cdef bint forgotten(self):
        """Whether its caller has gone."""
        return self.style == AWAITED and self.to is not None and self.to.cancelled()

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
        if not self.batch.gathered.future.cancelled():
            return False
        self.batch.drop()
        # No other reply may come, which would notice it.
        self.batch.gathered.drop()
        return True


cdef class Batch:
    """Many requests of one method with one future, that of ``gathered``. ``made`` of the requests
    exist so far; ``delegate`` is the one that waits in line for them all.
    """

    cdef void begin(self):
        """Make the requests, or as many as there is room for."""
        self.account._service.more += PyList_GET_SIZE(self.bodies)
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
        cdef BatchReplies gathered = self.gathered
        cdef BatchItem item
        while self.made < count:
            if self.due_us and service.tick.wheel.clock_us() >= self.due_us and self.made:
                self._give_up(DeadlineError("no room within the time allowed", retry_safe=True))
                return
            item = self._item()
            # It may end at once: the batch is not settled before it is known how.
            gathered.unanswered += 1
            service.submit(item)
            gathered.unanswered -= 1
            if self.made == 1 and gathered.errors is not None and item.never_ran:
                # Refused at once, and so is the batch.
                self.drop()
                gathered.future.set_exception(gathered.errors[0])
                return
            if gathered.unanswered == 0:
                gathered.settle()
            if item.in_line and self.order_key is None:
                item.patient = True
                self.delegate = item
                return

    cdef void go_on(self):
        """The delegate waits no longer: the next one is made soon."""
        self.delegate = None
        if self.made < PyList_GET_SIZE(self.bodies):
            self.account.loop.call_soon(_feed, self)

    cdef void _give_up(self, error):
        """End the requests that have not been made."""
        cdef BatchReplies gathered = self.gathered
        cdef Py_ssize_t i
        for i in range(self.made, PyList_GET_SIZE(self.bodies)):
            gathered.failed(i, error)
            gathered.unanswered -= 1
            self.account.failures += 1
        self.drop()
        if gathered.unanswered == 0:
            gathered.settle()

    cdef void drop(self):
        """Make no more requests."""
        self.account._service.more -= PyList_GET_SIZE(self.bodies) - self.made
        self.made = PyList_GET_SIZE(self.bodies)

    cdef void ended(self, BatchItem item, bytes reply, error):
        """A request has ended."""
        cdef BatchReplies gathered = self.gathered
        gathered.unanswered -= 1
        if error is not None and self.delegate is item:
            self.go_on()
        if gathered.future.done():
            # Cancelled: what has come is nobody's.
            gathered.drop()
            return
        if error is None and not gathered.admits(PyBytes_GET_SIZE(reply)):
            error = gathered.refusal(PyBytes_GET_SIZE(reply), None)
        if error is None:
            gathered.replies[item.number] = reply
        else:
            gathered.failed(item.number, error)
        if gathered.unanswered == 0:
            gathered.settle()


def _feed(Batch batch):
    if batch.delegate is None:
        batch.feed()
