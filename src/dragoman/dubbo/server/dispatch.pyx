"""The serving end of Dubbo: requests made calls of Python functions, results made replies.

``dubbo.server.server`` owns one ``Dispatcher``, which its connections share. What a real provider
does with its pool happens here with a count: a request beyond ``limit`` is answered with status 100
at once and never runs; heartbeats are answered whatever the pool does; ``$echo`` takes a place in
it.

Invariants: each two-way request is answered exactly once; at most ``limit`` calls are in progress,
and a call is in progress until its function has really ended, even if its caller has been told that
its time has passed; a body that is malformed harms its own call alone. Values become Python's on
the loop, so how many a call may have is bounded (``values_max``): what is taken is read within
about 20 ms. What becomes of a result is the service's own cost.
"""

from libc.stdint cimport int64_t, uint8_t

from dragoman.dubbo.server.binding cimport Bound, BoundService
from dragoman.dubbo.server.results cimport words
from dragoman.dubbo.server.connection cimport Connected, ServiceConnection
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.frame cimport (
    DUBBO_BAD_REQUEST, DUBBO_BAD_RESPONSE, DUBBO_HEADER_BYTES, DUBBO_OK, DUBBO_POOL_EXHAUSTED,
    DUBBO_SERVER_ERROR, DUBBO_SERVER_TIMEOUT, DUBBO_SERVICE_ERROR, DUBBO_SERVICE_NOT_FOUND,
    DubboDecoder, begin_frame, end_frame,
)
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer

import asyncio
import logging
from collections import deque
from contextvars import ContextVar, copy_context

import msgspec

from dragoman.dubbo.types.info import RequestInfo, ServerStatistics
from dragoman.dubbo.server.results import generalized
from dragoman.dubbo.types.scalars import LENIENT, Misfit
from dragoman.errors import DragomanError, JavaError, OverloadError, UsageError
from dragoman.observe.faults import log_fault
from dragoman.rpc.ending import Raised, guarded, pass_on
from dragoman.wire.java.descriptor import descriptor_of
from dragoman.wire.java.from_json import read_json
from dragoman.wire.dubbo.json_values import plain

log = logging.getLogger("dragoman.dubbo")

GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
ECHO = "Ljava/lang/Object;"
# The arguments are as in generic calls, the result as the method has it.
RAW = "raw.return"

# The call at work, for what its function awaits or starts; a function that runs at once on the loop
# finds its call at its provider.
_call = ContextVar("dragoman.dubbo.call", default=None)
_providers = {}

# What readers say of a call with more values than it may have, and of no other bound.
TOO_MANY = "more values than are taken in one call"


cdef class Dispatcher(Connected):
    """What a server's connections share: the services, the pool and the counters."""

    def __init__(
        self, loop, services, *, int limit, executor=None, Py_ssize_t payload_bytes_max=8388608,
        idle_s=180.0, int clients_max=100000, budget=None,
        Py_ssize_t values_max=200000,
    ):
        cdef BoundService service
        Connected.__init__(self, loop, payload_bytes_max, idle_s, clients_max, budget)
        self._create_task = loop.create_task
        self._executor = executor
        self._ended = deque()
        self.limit = limit
        self.values_max = values_max
        self._services = {}
        self._reader = Hessian2Reader(b"N")
        self._writer = Hessian2Writer()
        for service in services:
            key = (service.interface, service.version, service.group)
            if key in self._services:
                raise UsageError(f"two services are {_service_key(key)}")
            self._services[key] = service
        for other in [other for other in _providers if other.is_closed()]:
            del _providers[other]
        _providers.setdefault(loop, []).append(self)

    cdef BoundService find_service(self, str path, str version, str group):
        return self._services.get((
            path, "" if version is None or version == "0.0.0" else version,
            "" if group is None else group,
        ))

    cdef int serve(self, ServiceConnection connection) except -1:
        """Take the request that the connection's decoder has."""
        cdef DubboDecoder frame = connection.decoder
        cdef ServedCall call
        self.requests += 1
        if self.in_progress >= self.limit:
            if frame.two_way:
                self.rejected += 1
                connection.error(
                    frame.id, frame.serialization, DUBBO_POOL_EXHAUSTED,
                    f"Thread pool is EXHAUSTED! Pool Size: {self.limit} "
                    f"(active: {self.in_progress}, core: {self.limit}, max: {self.limit})",
                )
            else:
                self.dropped += 1
            return 0
        call = ServedCall.__new__(ServedCall)
        call.provider = self
        call.connection = connection
        call.id = frame.id
        call.serialization = frame.serialization
        call.two_way = frame.two_way
        call.started_us = connection.read_us
        try:
            call.decode(self._reader, frame.body, frame.body_length, self.values_max)
        except (DragomanError, UnicodeError, RecursionError, MemoryError) as error:
            why = words(error)
            if TOO_MANY in why:
                why = f"{why} (values_max: {self.values_max})"
            return call.refuse(DUBBO_BAD_REQUEST, f"Fail to decode request due to: {why}")
        try:
            return self._invoke(call)
        except BaseException as error:
            # A fault of ours, or of a class that refuses what came: other calls are to go on.
            log_fault(log, error, "%s: %s could not be called", connection.peer, call.method)
            if call.begun or call.answered:
                return 0
            return call.refuse(DUBBO_SERVER_ERROR, f"{type(error).__name__}: {words(error)}")

    cdef int _invoke(self, ServedCall call) except -1:
        """Find what is to be called, and call it."""
        cdef BoundService service
        cdef Bound bound
        cdef int64_t timeout_ms
        service = self.find_service(call.path, call.version, call.text_of("group"))
        if service is None:
            asked = _service_key((call.path, call.version, call.text_of("group")))
            return call.refuse(
                DUBBO_SERVICE_NOT_FOUND,
                f"Not found exported service: {asked} in "
                f"{[_service_key(key) for key in self._services]}, may be version or group "
                "mismatch",
            )
        timeout_ms = call.timeout_ms()
        if timeout_ms < 0:
            self.late += 1
            return call.refuse(
                DUBBO_SERVER_TIMEOUT, f"{call.method:.200} came after the caller's time had passed"
            )
        if timeout_ms:
            call.due_us = call.started_us + timeout_ms * 1000
        if call.method[:1] == "$":
            if call.method == "$echo" and call.descriptor == ECHO:
                self.replies += 1
                return call._answer(call.arguments[0], None)
            if call.method in ("$invoke", "$invokeAsync") and call.descriptor == GENERIC:
                call.generic = call.text_of("generic") or "true"
                return self._generic(call)
        bound = service.find(call.method, call.descriptor)
        if bound is None:
            return call.refuse(DUBBO_SERVICE_ERROR, _no_method(call, call.descriptor))
        return self._bind(call, bound)

    cdef int _generic(self, ServedCall call) except -1:
        """A generic call: the method, its types and arguments are the arguments."""
        cdef BoundService service
        cdef Bound bound
        name, types, arguments = call.arguments
        descriptor = None
        try:
            if call.generic not in ("true", "gson", RAW):
                raise UsageError(
                    f"generic={call.generic:.40} is not supported, but true, gson and {RAW}"
                )
            if type(name) is not str or not isinstance(arguments, (list, tuple, type(None))):
                raise UsageError("the arguments are not a method, its types and its arguments")
            arguments = list(arguments or ())
            if types:
                if not isinstance(types, (list, tuple)) or len(types) != len(arguments):
                    raise UsageError("not as many types as arguments")
                descriptor = descriptor_of(types)
            elif not arguments:
                descriptor = ""
            if call.generic == "gson":
                arguments = [
                    None if each is None else plain(read_json(each.encode())) for each in arguments
                ]
        except (DragomanError, AttributeError, UnicodeError) as error:
            return call.refuse(
                DUBBO_BAD_REQUEST, f"Fail to decode request due to: {words(error)}"
            )
        call.method = name
        call.arguments = arguments
        service = self.find_service(call.path, call.version, call.text_of("group"))
        bound = service.find(name, descriptor)
        if bound is None or len(bound.decoders) != len(arguments):
            return call._answer(None, JavaError(
                _no_method(call, descriptor), java_class="java.lang.NoSuchMethodException"
            ))
        return self._bind(call, bound)

    def _bind(self, ServedCall call, Bound bound):
        """Fit the arguments to the method's annotations, and run it."""
        cdef Py_ssize_t i
        cdef dict memo = None if call.generic is None else {LENIENT: True}
        cdef list arguments = call.arguments
        call.bound = bound
        try:
            for i in range(len(arguments)):
                decode = bound.decoders[i]
                if decode is not None:
                    if memo is None:
                        memo = {}
                    arguments[i] = decode(arguments[i], memo)
        except (Misfit, RecursionError) as error:
            return call.refuse(
                DUBBO_BAD_REQUEST,
                "Fail to decode request due to: "
                f"{bound.method}: argument {i + 1}, {bound.method.names[i]!r}: {words(error)}",
            )
        return self._run(call)

    cdef int _run(self, ServedCall call) except -1:
        cdef Bound bound = call.bound
        cdef list arguments = call.arguments
        cdef object result
        self.in_progress += 1
        if self.in_progress > self.in_progress_max:
            self.in_progress_max = self.in_progress
        call.connection.owed += 1
        call.begun = True
        if call.due_us:
            self.tick.wheel.schedule(call, call.due_us)
        if bound.threaded:
            token = _call.set(call)
            try:
                self._executor.submit(self._in_thread, call, copy_context())
            except RuntimeError as error:
                # It has been shut down.
                return call.end(None, error)
            finally:
                _call.reset(token)
            return 0
        self._running = call
        try:
            result = bound.function(*arguments)
        except BaseException as error:
            return call.end(None, error)
        finally:
            self._running = None
        if bound.coroutine or hasattr(result, "__await__"):
            return call._await(result)
        return call.end(result, None)

    def _in_thread(self, ServedCall call, context):
        """On a thread of the pool."""
        cdef object result = None, raised = None
        if not call.answered:
            try:
                result = context.run(call.bound.function, *call.arguments)
            except BaseException as error:
                raised = error
        self._ended.append((call, result, raised))
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._take_ended)
            except RuntimeError:
                # The loop has been closed.
                pass

    def _take_ended(self):
        """The calls that have ended on threads."""
        cdef ServedCall call
        self._woken = False
        ended = self._ended
        while ended:
            call, result, error = ended.popleft()
            if error is None and not call.answered and hasattr(result, "__await__"):
                # A function that makes coroutines, and did not look like one.
                call._await(result)
                continue
            call.end(result, error)

    def close(self, *, at_once=False):
        """Close every connection, once what has been written is sent, or at once; calls at work go
        on, but nobody hears of them.
        """
        Connected.close(self, at_once=at_once)
        providers = _providers.get(self.loop)
        if providers is not None and self in providers:
            providers.remove(self)

    def set_limit(self, int limit):
        """From now on have at most ``limit`` calls in progress."""
        self.limit = limit

    def statistics(self):
        """The counters now."""
        return ServerStatistics(
            clients=len(self.connections), connections=self.connected,
            in_progress=self.in_progress, in_progress_max=self.in_progress_max, limit=self.limit,
            requests=self.requests, replies=self.replies, exceptions=self.exceptions,
            rejected=self.rejected, dropped=self.dropped, refused=self.refused, late=self.late,
            heartbeats=self.heartbeats,
        )


cdef class ServedCall(ServedRequest):
    """A request at work. Calling it with a finished task or future ends it."""

    cdef int _await(self, awaitable) except -1:
        """Make a task of what the function returned."""
        token = _call.set(self)
        try:
            if asyncio.isfuture(awaitable):
                self.task = asyncio.ensure_future(awaitable, loop=self.provider.loop)
            else:
                self._awaited = awaitable
                self.task = self.provider._create_task(guarded(awaitable))
                self.provider.tick.tasks += 1
        except Exception as error:
            # A future of another loop, say.
            return self.end(None, error)
        finally:
            _call.reset(token)
        self.task.add_done_callback(self)
        return 0

    def __call__(self, task):
        cdef object awaited = self._awaited
        self.task = None
        self._awaited = None
        if task.cancelled():
            if awaited is not None and asyncio.iscoroutine(awaited):
                # It may not have begun.
                awaited.close()
            self.end(None, asyncio.CancelledError("the handler was cancelled"))
            return
        error = task.exception()
        result = None if error is not None else task.result()
        if type(result) is Raised:
            error = result.error
            result = None
        self.end(result, error)

    cdef int end(self, result, error) except -1:
        """The function has ended: its place is free, and the request is answered unless it has
        been.
        """
        self.provider.in_progress -= 1
        self.connection.owed -= 1
        if self._wheel is not None:
            self._wheel.cancel(self)
        if self.answered:
            if self.connection.half_closed:
                self.provider.tick.mark(self.connection)
            return 0
        if error is None:
            encode = self.bound.encode_inner if self._generalizes() else self.bound.encode
            try:
                if encode is not None:
                    result = encode(result)
                if self._generalizes():
                    result = generalized(result)
                    if self.generic == "gson":
                        result = msgspec.json.encode(result, enc_hook=str).decode()
            except BaseException as misfit:
                error = TypeError(f"{self.bound.method}: result: {words(misfit)}")
        if error is None:
            self.provider.replies += 1
        else:
            self.provider.exceptions += 1
            if not isinstance(error, DragomanError):
                log_fault(
                    log, error, "%s: %s raised", self.connection.peer, self.bound.method
                )
            if not isinstance(error, Exception):
                pass_on(self.provider.loop, error)
        return self._answer(result, error)

    cdef bint _generalizes(self) except -1:
        """Whether the caller wants maps for beans, having called generically."""
        return self.generic is not None and self.generic != RAW

    cdef int _answer(self, result, error) except -1:
        """Write the reply, if there is to be one."""
        cdef ServiceConnection connection = self.connection
        cdef Buffer out = connection.out
        cdef size_t start = out.length
        cdef str descriptor = None
        self.answered = True
        if connection.half_closed:
            self.provider.tick.mark(connection)
        if not self.two_way or connection.closed:
            return 0
        if isinstance(error, OverloadError) and error.retry_safe:
            # The function says that it has done nothing.
            return connection.error(
                self.id, self.serialization, DUBBO_POOL_EXHAUSTED, words(error)
            )
        if self.bound is not None and not self._generalizes():
            descriptor = self.bound.descriptor
        begin_frame(out, <uint8_t>self.serialization, DUBBO_OK, self.id)
        try:
            if error is not None:
                self.write_exception(self.provider._writer, out, error)
            else:
                self.write_value(self.provider._writer, out, result, descriptor)
            if <Py_ssize_t>(out.length - start) - DUBBO_HEADER_BYTES \
                    > self.provider.payload_bytes_max:
                raise UsageError(
                    f"Data length too large: {out.length - start - DUBBO_HEADER_BYTES}, "
                    f"max payload: {self.provider.payload_bytes_max}"
                )
        except BaseException as problem:
            # Half a frame would be the end of all that comes after it.
            out.length = start
            log_fault(log, problem, "%s: a reply cannot be sent", connection.peer)
            return connection.error(
                self.id, self.serialization, DUBBO_BAD_RESPONSE,
                f"Failed to send response, cause: {words(problem)}",
            )
        end_frame(out, start)
        self.provider.tick.mark(connection)
        return 0

    cdef int refuse(self, int status, str text) except -1:
        """Answer a request that does not run."""
        self.provider.refused += 1
        self.answered = True
        if self.two_way:
            self.connection.error(self.id, self.serialization, status, text)
        return 0

    cdef void on_due(self):
        """The caller's time has passed. A task is cancelled, a thread runs on."""
        self.answered = True
        self.provider.late += 1
        if self.two_way:
            self.connection.error(
                self.id, self.serialization, DUBBO_SERVER_TIMEOUT,
                f"{self.bound.method} did not end within the caller's time",
            )
        if self.task is not None:
            self.task.cancel()

    def info(self):
        """What the function may know of its request."""
        cdef int64_t left_us
        timeout_ms = None
        if self.due_us:
            left_us = self.due_us - self.provider.tick.wheel.clock_us()
            timeout_ms = max(0, left_us // 1000)
        if self.reply_attachments is None:
            self.reply_attachments = {}
        group = self.text_of("group")
        return RequestInfo(
            self.path, self.method, self.version or "", group, self.connection.peer,
            self.attachments, self.reply_attachments, timeout_ms, not self.two_way,
        )


def _service_key(key):
    """Dubbo's own name for a service."""
    path, version, group = key
    name = f"{group}/{path}" if group else path
    return f"{name}:{version}" if version and version != "0.0.0" else name


def _no_method(ServedCall call, descriptor):
    return (
        f"Failed to invoke remote proxy method {call.method:.200}, cause: Not found method "
        f'"{call.method:.200}({"" if descriptor is None else descriptor:.500})" '
        f"in class {call.path:.300}."
    )


def current_request():
    """What a method may know of the request that it answers, as a RequestInfo.

    Works in the method itself and in whatever it awaits or starts. Raises UsageError elsewhere.
    """
    cdef ServedCall call = _call.get()
    cdef Dispatcher provider
    if call is None and (loop := asyncio._get_running_loop()) is not None:
        for provider in _providers.get(loop, ()):
            if provider._running is not None:
                call = provider._running
                break
    if call is None:
        raise UsageError("current_request() is for methods that serve requests")
    return call.info()
