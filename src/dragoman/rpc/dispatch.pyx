"""From requests to Python functions and back: what a server does with what its clients ask.

``rpc.server`` owns one ``Dispatcher`` for all its sessions. A function that returns bytes has
answered before the next request is looked at, with no object made but its argument and its result.
A function that returns an awaitable becomes a task, and so does what must wait for its turn: these
are ``Work``, which knows deadline, cancellation and the lane of its order key.

Invariants: each request is answered once and its credit goes back when its work has ended; of the
requests of one client with one order key at most one is at work, and they start in the order sent;
while the bodies of what is in progress are more than ``bytes_max``, no session that has brought
more is read.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.list cimport PyList_GET_ITEM
from libc.stdint cimport int64_t, uint16_t, uint32_t

from dragoman.rpc.server_session cimport HOLD_HANDLER, Handler, ServerSession
from dragoman.rpc.tick cimport Tick, tick_of
from dragoman.timers cimport Timed
from dragoman.wire.mesh cimport FEATURE_METADATA, FEATURE_NO_REPLY, FEATURE_ORDER

import asyncio
import inspect
import logging
from collections import OrderedDict
from concurrent.futures import Future as ConcurrentFuture
from contextvars import ContextVar, copy_context

from dragoman.errors import Code, DragomanError, ProtocolError, UsageError
from dragoman.observe.faults import log_fault
from dragoman.rpc.ending import Raised, guarded, pass_on
from dragoman.rpc.statistics import RequestInfo

log = logging.getLogger("dragoman.rpc")

cdef uint32_t TIMEOUT_MS_NONE = 0xFFFFFFFF
cdef bytes NO_IDENTITY = b"\0" * 16

# The request at work, for what a handler awaits or starts; a function that runs at once finds its
# request at its loop's tick.
_work = ContextVar("dragoman.rpc.work", default=None)


cdef class Method:
    """A method as the server knows it: its name, and the function that answers it."""

    def __cinit__(self, str name, function, bint threaded):
        self.name = name
        self.function = function
        self.threaded = threaded


cdef class Dispatcher(Handler):
    """Answers requests with ``functions``: a dict from method name to function, or one function for
    every name. ``executor`` runs the functions that are not coroutine functions, unless it is None.
    """

    def __init__(self, loop, functions, *, int64_t bytes_max, executor=None):
        self.features = FEATURE_NO_REPLY | FEATURE_ORDER | FEATURE_METADATA
        self.loop = loop
        self.tick = tick_of(loop)
        self._functions = functions
        self._executor = executor
        self._create_task = loop.create_task
        self._methods = []
        self._numbers = {}
        # How many sessions have named each method; the numbers that nobody uses.
        self._uses = []
        self._free = []
        self._bytes_max = bytes_max
        self._held = []
        self._lanes = {}

    cdef int method(self, bytes name) except -1:
        cdef str text
        cdef object function
        known = self._numbers.get(name)
        if known is not None:
            self._uses[known] += 1
            return known
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return -2
        function = self._functions
        if type(function) is dict:
            function = function.get(text)
            if function is None:
                return -2
        threaded = self._executor is not None and not inspect.iscoroutinefunction(function)
        if self._free:
            known = self._free.pop()
        else:
            known = len(self._methods)
            if known > 0xFFFF:
                return -2
            self._methods.append(None)
            self._uses.append(0)
        self._numbers[name] = known
        self._methods[known] = Method(text, function, threaded)
        self._uses[known] = 1
        return known

    cdef void _release_methods(self, ServerSession session):
        """Forget the names that only this session used: whoever may invent names must not fill the
        memory with them.
        """
        cdef uint32_t i
        cdef int number
        for i in range(session._named):
            number = session._methods[i]
            if number >= 0:
                self._uses[number] -= 1
                if self._uses[number] == 0:
                    del self._numbers[(<Method>self._methods[number]).name.encode()]
                    self._methods[number] = None
                    self._free.append(number)

    cdef bint on_request(
        self, ServerSession session, uint32_t id, uint16_t number, uint32_t timeout_ms,
        const char* body, Py_ssize_t n, bytes owner
    ) except -1:
        cdef Method method = <Method>PyList_GET_ITEM(self._methods, number)
        cdef object result
        cdef Work work
        self.requests += 1
        if owner is None or PyBytes_GET_SIZE(owner) != n:
            owner = PyBytes_FromStringAndSize(body, n)
        if session.order_id or method.threaded:
            work = self._work(session, id, method, timeout_ms, n)
            work.body = owner
            if session.order_id:
                self._in_turn(work, session)
            else:
                work.start()
            return True
        if self.tick.request_session is not session:
            self.tick.request_session = session
        if self.tick.request_method is not method:
            self.tick.request_method = method
        self.tick.request_timeout_ms = timeout_ms
        self.tick.request_no_reply = session.no_reply
        if self.tick.request_metadata is not session.metadata:
            self.tick.request_metadata = session.metadata
        try:
            result = method.function(owner)
        except BaseException as error:
            self._answer_error(session, id, session.no_reply, error, method)
            return True
        if PyBytes_CheckExact(result):
            if session.no_reply:
                session.owed(session.pool.done(session.holder))
            else:
                session.reply(
                    id, PyBytes_AS_STRING(result), PyBytes_GET_SIZE(result),
                    session.pool.done(session.holder), <bytes>result,
                )
        elif hasattr(result, "__await__"):
            try:
                work = self._work(session, id, method, timeout_ms, n)
            except ProtocolError:
                if asyncio.iscoroutine(result):
                    result.close()
                raise
            work._await(result)
        else:
            self._answer(session, id, session.no_reply, result, method)
        return True

    def _work(self, ServerSession session, uint32_t id, Method method, uint32_t timeout_ms,
              Py_ssize_t n):
        """A request that is not answered at once."""
        cdef Work work
        if session.work is None:
            session.work = {}
        elif id in session.work:
            session.pool.done(session.holder)
            raise ProtocolError(f"request id {id} is in use")
        work = Work.__new__(Work)
        work.dispatcher = self
        work.session = session
        work.id = id
        work.method = method
        work.no_reply = session.no_reply
        work.metadata = session.metadata
        work.body_bytes = n
        work.timeout_ms = timeout_ms
        work.started_us = session.read_us
        session.work[id] = work
        self.in_progress += 1
        self.bytes += n
        if self.bytes > self._bytes_max and not session.closed:
            session.hold(HOLD_HANDLER)
            self._held.append(session)
        if timeout_ms != TIMEOUT_MS_NONE:
            self.tick.wheel.schedule(work, work.started_us + <int64_t>timeout_ms * 1000)
        return work

    def _in_turn(self, Work work, ServerSession session):
        """Start a request of a sequence when those before it have ended."""
        # Without an identity of the client the order holds for the connection.
        cdef object whose = session.peer_identity
        if whose == NO_IDENTITY:
            whose = session
        work.lane_key = (whose, session.order_key)
        lane = self._lanes.get(work.lane_key)
        if lane is None:
            self._lanes[work.lane_key] = OrderedDict()
            work.start()
        else:
            lane[work] = None

    def _next_in_turn(self, Work work):
        """``work`` has ended: the next of its sequence starts."""
        cdef Work following
        lane = self._lanes[work.lane_key]
        if not lane:
            del self._lanes[work.lane_key]
            return
        following, _ = lane.popitem(last=False)
        # In a tick of its own, or a long sequence of short work would nest.
        self.loop.call_soon(following._start_in_turn)

    cdef int _answer(
        self, ServerSession session, uint32_t id, bint no_reply, result, Method method
    ) except -1:
        """Answer with what a function returned; its credit goes back."""
        cdef bytes data
        if no_reply:
            session.owed(session.pool.done(session.holder))
            return 0
        if not isinstance(result, (bytes, bytearray, memoryview)):
            return self._answer_error(
                session, id, no_reply,
                TypeError(f"expected bytes from the handler, not {type(result).__name__}"), method,
            )
        try:
            data = bytes(result)
        except BaseException as error:
            # A view that was released, say.
            return self._answer_error(session, id, no_reply, error, method)
        session.reply(
            id, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
            session.pool.done(session.holder), data,
        )
        return 0

    cdef int _answer_error(
        self, ServerSession session, uint32_t id, bint no_reply, error, Method method
    ) except -1:
        """Answer with what a function raised; its credit goes back."""
        cdef int credits
        cdef int code = Code.REMOTE
        cdef bint retry_safe = False
        cdef str text
        self.errors += 1
        if not isinstance(error, DragomanError):
            log_fault(log, error, "%s: %s raised", session.peer, method.name)
            if not isinstance(error, Exception):
                pass_on(self.loop, error)
        credits = session.pool.done(session.holder)
        if no_reply:
            session.owed(credits)
            return 0
        try:
            text = str(error)
        except BaseException:
            text = "an error that cannot be put into words"
        if isinstance(error, DragomanError):
            code = error.code if _is_code(error.code) else Code.INTERNAL
            retry_safe = error.retry_safe is True
        else:
            text = f"{type(error).__name__}: {text}"
        session.error(id, code, retry_safe, text, credits)
        return 0

    cdef int _less(self, Py_ssize_t n) except -1:
        """The body of a request is needed no longer."""
        cdef ServerSession session
        cdef list held
        self.in_progress -= 1
        self.bytes -= n
        if self._held and self.bytes <= self._bytes_max // 2:
            held = self._held
            self._held = []
            for session in held:
                session.release(HOLD_HANDLER)
        return 0

    cdef void on_cancel(self, ServerSession session, uint32_t id):
        cdef Work work
        if session.work is None:
            return
        work = session.work.get(id)
        if work is not None and not work.unwanted:
            if not work.no_reply:
                session.error(id, Code.CANCELLED, False, "cancelled by the caller", 0)
            work.forsake()

    cdef void on_lost(self, ServerSession session):
        cdef Work work
        self._release_methods(session)
        if session.work is None:
            return
        for work in list(session.work.values()):
            # Nobody waits for those that need no reply either, but they are to be done.
            if not work.unwanted and not work.no_reply:
                work.forsake()


cdef class Work(Timed):
    """A request that takes its time. Calling it with a finished task or future ends it."""

    def _start_in_turn(self):
        self.start()

    cdef int start(self) except -1:
        """Run its function."""
        cdef Tick tick = self.dispatcher.tick
        cdef object result
        cdef bytes body = self.body
        self.body = None
        if self.unwanted:
            return self._end(b"", None)
        if self.method.threaded:
            token = _work.set(self)
            try:
                context = copy_context()
                self.task = self.dispatcher._executor.submit(
                    context.run, self.method.function, body
                )
            except RuntimeError as error:
                # The executor has been shut down.
                return self._end(None, error)
            finally:
                _work.reset(token)
            # Not a future of the loop: that would end when it is cancelled, the thread only later.
            self.task.add_done_callback(self._thread_ended)
            return 0
        tick.request_session = self.session
        tick.request_method = self.method
        tick.request_timeout_ms = self.timeout_ms
        tick.request_no_reply = self.no_reply
        tick.request_metadata = self.metadata
        try:
            result = self.method.function(body)
        except BaseException as error:
            return self._end(None, error)
        finally:
            tick.request_session = None
        if hasattr(result, "__await__"):
            return self._await(result)
        return self._end(result, None)

    cdef int _await(self, awaitable) except -1:
        """Make a task of what the function returned."""
        token = _work.set(self)
        try:
            if asyncio.isfuture(awaitable):
                self.task = asyncio.ensure_future(awaitable, loop=self.dispatcher.loop)
            else:
                self._awaited = awaitable
                self.task = self.dispatcher._create_task(guarded(awaitable))
                self.dispatcher.tick.tasks += 1
        except Exception as error:
            # A future of another loop, say.
            return self._end(None, error)
        finally:
            _work.reset(token)
        self.task.add_done_callback(self)
        return 0

    def _thread_ended(self, future):
        """On the thread that has run the function, or whoever cancelled it."""
        if not self.dispatcher.loop.is_closed():
            self.dispatcher.loop.call_soon_threadsafe(self, future)

    def __call__(self, task):
        cdef bint threaded = self.task is task and type(task) is ConcurrentFuture
        cdef object awaited = self._awaited
        self.task = None
        self._awaited = None
        if task.cancelled():
            if awaited is not None and asyncio.iscoroutine(awaited):
                # It may not have begun.
                awaited.close()
            self._end(None, asyncio.CancelledError("the handler was cancelled"))
            return
        error = task.exception()
        if error is not None:
            self._end(None, error)
            return
        result = task.result()
        if type(result) is Raised:
            self._end(None, result.error)
            return
        if threaded and not PyBytes_CheckExact(result) and hasattr(result, "__await__"):
            if not self.unwanted:
                # A function that makes coroutines, and did not look like one.
                self._await(result)
                return
            if asyncio.iscoroutine(result):
                result.close()
        self._end(result, None)

    cdef int _end(self, result, error) except -1:
        """The work has ended: its place is free, and it is answered unless nobody waits."""
        cdef Dispatcher dispatcher = self.dispatcher
        cdef ServerSession session = self.session
        if self._wheel is not None:
            self._wheel.cancel(self)
        self._forget()
        if self.unwanted:
            session.owed(session.pool.done(session.holder))
        elif error is not None:
            dispatcher._answer_error(session, self.id, self.no_reply, error, self.method)
        else:
            dispatcher._answer(session, self.id, self.no_reply, result, self.method)
        if self.lane_key is not None:
            dispatcher._next_in_turn(self)
        return dispatcher._less(self.body_bytes)

    cdef void forsake(self):
        """Nobody waits any more: what has not begun does not, a task is cancelled."""
        self.unwanted = True
        # It has been answered: its id may come again.
        self._forget()
        if self._wheel is not None:
            self._wheel.cancel(self)
        if self.task is not None:
            self.task.cancel()
        elif self.lane_key is not None and self.body is not None:
            lane = self.dispatcher._lanes[self.lane_key]
            if self in lane:
                del lane[self]
                self.body = None
                self.session.owed(self.session.pool.done(self.session.holder))
                self.dispatcher._less(self.body_bytes)

    cdef void _forget(self):
        """Its session keeps it no longer."""
        if self.session.work.get(self.id) is self:
            del self.session.work[self.id]

    cdef void on_due(self):
        if not self.no_reply:
            self.session.error(
                self.id, Code.DEADLINE, False, "not answered within the time allowed", 0
            )
        self.forsake()


def _is_code(code):
    """Whether an ERROR frame can carry this code."""
    return isinstance(code, int) and 1 <= code <= 0xFFFF


def current_request():
    """The request that a handler answers, as a RequestInfo.

    Works in the handler itself and in whatever it awaits or starts. Raises UsageError elsewhere.
    """
    # A task or a thread has its own; a function that runs at once has none.
    cdef Work work = _work.get()
    cdef Tick tick
    cdef Method method
    cdef ServerSession session
    if work is None and (loop := asyncio._get_running_loop()) is not None:
        tick = tick_of(loop)
        if tick.request_session is not None:
            method = tick.request_method
            session = tick.request_session
            left_ms = tick.request_timeout_ms
            return RequestInfo(
                method.name, session.peer, None if left_ms == TIMEOUT_MS_NONE else left_ms,
                tick.request_no_reply, dict(tick.request_metadata or ()),
            )
    if work is None:
        raise UsageError("current_request() is for handlers of requests")
    left_ms = None
    if work.timeout_ms != TIMEOUT_MS_NONE:
        passed_us = work.dispatcher.tick.wheel.clock_us() - work.started_us
        left_ms = max(0, work.timeout_ms - passed_us // 1000)
    return RequestInfo(
        work.method.name, work.session.peer, left_ms, work.no_reply, dict(work.metadata or ())
    )

