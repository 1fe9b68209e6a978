"""The serving end of Dubbo: connections, requests in, calls of Python functions, replies out.

``dubbo.server`` owns one ``Provider`` and hands each connection a ``ServiceConnection``. What a
real provider does with its pool happens here with a count: a request beyond ``limit`` is answered
with status 100 at once and never runs; heartbeats are answered whatever the pool does; ``$echo``
takes a place in it.

Invariants: each two-way request is answered exactly once; at most ``limit`` calls are in progress,
and a call is in progress until its function has really ended, even if its caller has been told that
its time has passed; a body that is malformed harms its own call alone.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t, uint8_t

from dragoman.rpc.turn cimport turn_of
from dragoman.wire.bean cimport Bean
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.descriptor cimport descriptor_count
from dragoman.wire.dubbo cimport (
    DUBBO_BAD_REQUEST, DUBBO_BAD_RESPONSE, DUBBO_ERROR, DUBBO_EVENT_HEARTBEAT, DUBBO_FRAME,
    DUBBO_HEADER_BYTES, DUBBO_HESSIAN2, DUBBO_OK, DUBBO_POOL_EXHAUSTED, DUBBO_SERVER_TIMEOUT,
    DUBBO_SERVER_ERROR,
    DUBBO_SERVICE_ERROR, DUBBO_SERVICE_NOT_FOUND, DubboDecoder, begin_frame, end_frame, event_kind,
    write_error_reply, write_heartbeat_reply, write_readonly,
)
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer

import asyncio
import inspect
import logging
from collections import deque
from contextvars import ContextVar, copy_context

import msgspec

from dragoman.dubbo.mapping import ENUMS, Misfit
from dragoman.dubbo.request import RequestInfo, ServerStatistics
from dragoman.errors import DragomanError, JavaError, OverloadError, UsageError
from dragoman.wire.descriptor import count_parameters, descriptor_of
from dragoman.wire.hessian2 import CONTAINERS_MAX, DEPTH_MAX
from dragoman.wire.invocation import decode_request, encode_reply
from dragoman.wire.java import TypedList

log = logging.getLogger("dragoman.dubbo")

GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
ECHO = "Ljava/lang/Object;"
GENERIC_EXCEPTION = "org.apache.dubbo.rpc.service.GenericException"
ILLEGAL_ARGUMENT = "java.lang.IllegalArgumentException"

# A text for a peer is cut here.
cdef Py_ssize_t TEXT_MAX = 2000
# Descriptors other than those declared, under which a service's methods have been found.
cdef Py_ssize_t FOUND_MAX = 1024
cdef int DEPTH = DEPTH_MAX
cdef Py_ssize_t CONTAINERS = CONTAINERS_MAX

# The call at work, for what its function awaits or starts; a function that runs at once on the loop
# finds its call at its provider.
_call = ContextVar("dragoman.dubbo.call", default=None)
_providers = {}

# Java's types that stand for one in Python: who calls a method with another of the same family
# means this method.
_FAMILIES = {}
for _family in (
    ("B", "S", "I", "J", "java/lang/Byte", "java/lang/Short", "java/lang/Integer",
     "java/lang/Long", "java/math/BigInteger", "java/lang/Number"),
    ("F", "D", "java/lang/Float", "java/lang/Double", "java/math/BigDecimal"),
    ("Z", "java/lang/Boolean"),
    ("C", "java/lang/String", "java/lang/Character", "java/lang/CharSequence"),
    ("java/util/List", "java/util/Set", "java/util/Collection", "java/util/ArrayList",
     "java/util/LinkedList", "java/util/HashSet", "java/lang/Iterable"),
):
    for _name in _family:
        _FAMILIES[_name if len(_name) == 1 else f"L{_name};"] = _family[0]


def _parameters_of(str descriptor):
    """The types in a descriptor, one by one."""
    cdef list found = []
    cdef Py_ssize_t at = 0, start
    while at < len(descriptor):
        start = at
        while descriptor[at] == "[":
            at += 1
        at = descriptor.index(";", at) + 1 if descriptor[at] == "L" else at + 1
        found.append(descriptor[start:at])
    return found


def _alike(str declared, str asked):
    """Whether a value of the type asked for can stand for one of the type declared."""
    if declared == asked or ECHO in (declared, asked):
        return True
    if declared == "Ljava/util/List;" or declared == "Ljava/util/Set;":
        return (asked[0] == "[" and asked != "[B") or _FAMILIES.get(asked) == "java/util/List"
    family = _FAMILIES.get(declared)
    if family is not None or asked in _FAMILIES or len(asked) == 1 or asked[0] == "[":
        return family is not None and family == _FAMILIES.get(asked)
    # Beans and maps: subclasses, interfaces and the like; their fields will tell.
    return declared[0] == "L"


cdef class Bound:
    """A method with the function that answers it."""

    def __init__(self, method, function, Py_ssize_t count, bint threads):
        self.method = method
        self.function = function
        self.decoders = tuple([mapping.decode for mapping in method.parameters[:count]])
        self.encode = method.result.encode
        self.encode_inner = method.result.encode_inner
        self.descriptor = method.result.descriptor
        if self.descriptor == "V":
            # Whatever it returns, nobody waits for a value.
            self.descriptor = None
            self.encode = self.encode_inner = _nothing
        self.coroutine = inspect.iscoroutinefunction(function)
        self.threaded = threads and not self.coroutine


cdef class BoundService:
    """An object whose methods are served; ``declaration`` says how."""

    def __init__(self, declaration, instance, *, bint threads, version=None, group=None):
        cdef Py_ssize_t count
        self.interface = declaration.interface
        self.version = declaration.version if version is None else version
        self.group = declaration.group if group is None else group
        self._exact = {}
        self._by_name = {}
        for method in declaration.methods:
            function = getattr(instance, method.python_name)
            for count in range(method.least, len(method.parameters) + 1):
                bound = Bound(method, function, count, threads)
                self._exact[(method.name, method.descriptor(count))] = bound
                self._by_name.setdefault(method.name, []).append(
                    (method.descriptor(count), bound)
                )

    cdef Bound find(self, str name, str descriptor):
        """The method that is meant, or None: of this very descriptor, or the only one that its
        types fit.
        """
        cdef tuple key = (name, descriptor)
        cdef list fitting
        bound = self._exact.get(key)
        if bound is not None:
            return <Bound>bound
        candidates = self._by_name.get(name)
        if candidates is None:
            return None
        if descriptor is None:
            # A generic call without types: there must be no other of the name.
            return <Bound>candidates[0][1] if len(candidates) == 1 else None
        asked = _parameters_of(descriptor)
        fitting = []
        for declared, bound in candidates:
            own = _parameters_of(declared)
            if len(own) == len(asked) and all([_alike(a, b) for a, b in zip(own, asked)]):
                fitting.append(bound)
        if len(fitting) != 1:
            return None
        if len(self._exact) < FOUND_MAX:
            self._exact[key] = fitting[0]
        return <Bound>fitting[0]

    @property
    def methods(self):
        """The names of the methods in Java, in order."""
        return list(self._by_name)


cdef class Provider:
    """What a server's connections share: the services, the pool and the counters."""

    def __init__(
        self, loop, services, *, int limit, executor=None, Py_ssize_t payload_bytes_max=8388608,
        idle_s=180.0, int clients_max=100000,
    ):
        cdef BoundService service
        self.loop = loop
        self.turn = turn_of(loop)
        self._create_task = loop.create_task
        self._executor = executor
        self._ended = deque()
        self.limit = limit
        self.payload_bytes_max = payload_bytes_max
        self.idle_us = <int64_t>(idle_s * 1e6)
        self.clients_max = clients_max
        self.connections = set()
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

    def connection(self):
        """A protocol for one more connection."""
        return ServiceConnection(self)

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
            self._decode(call, frame.body, frame.body_length)
        except (DragomanError, UnicodeError, RecursionError, MemoryError) as error:
            return call.refuse(
                DUBBO_BAD_REQUEST, f"Fail to decode request due to: {_words(error)}"
            )
        try:
            return self._invoke(call)
        except Exception as error:
            # A fault of ours, or of a class that refuses what came: other calls are to go on.
            log.exception("%s: %s could not be called", connection.peer, call.method)
            if call.begun or call.answered:
                return 0
            return call.refuse(DUBBO_SERVER_ERROR, f"{type(error).__name__}: {_words(error)}")

    cdef int _decode(self, ServedCall call, const char* body, Py_ssize_t n) except -1:
        """Read a request's body; raises ProtocolError."""
        cdef Hessian2Reader reader = self._reader
        cdef bytes descriptor
        cdef int count, i
        if call.serialization != DUBBO_HESSIAN2:
            request = decode_request(body[:n], call.serialization)
            call.protocol_version = request.protocol
            call.path = request.path
            call.version = request.service_version
            call.method = request.method
            call.descriptor = request.descriptor
            call.arguments = request.arguments
            call.attachments = {
                name: value for name, value in request.attachments.items() if type(value) is str
            }
            return 0
        reader.start(None, <const uint8_t*>body, n, False, DEPTH, CONTAINERS)
        call.protocol_version = reader.text()
        call.path = reader.text()
        call.version = reader.text()
        call.method = reader.text()
        call.descriptor = reader.text()
        if call.path is None or call.method is None or call.descriptor is None:
            raise UsageError("no path, method or descriptor")
        descriptor = call.descriptor.encode()
        count = descriptor_count(PyBytes_AS_STRING(descriptor), PyBytes_GET_SIZE(descriptor))
        if count < 0:
            count_parameters(descriptor)
        # What is echoed is to be what it was.
        reader.exact = call.method == "$echo"
        call.arguments = [reader.value() for i in range(count)]
        reader.exact = False
        call.attachments = reader.text_map() if reader.at < reader.n else {}
        return 0

    cdef int _invoke(self, ServedCall call) except -1:
        """Find what is to be called, and call it."""
        cdef BoundService service
        cdef Bound bound
        cdef int64_t timeout_ms
        call.takes_attachments = _takes_attachments(call.protocol_version)
        service = self.find_service(call.path, call.version, call.attachments.get("group"))
        if service is None:
            asked = _service_key((call.path, call.version, call.attachments.get("group")))
            return call.refuse(
                DUBBO_SERVICE_NOT_FOUND,
                f"Not found exported service: {asked} in "
                f"{[_service_key(key) for key in self._services]}, may be version or group "
                "mismatch",
            )
        timeout_ms = _timeout_ms(call.attachments)
        if timeout_ms:
            call.due_us = call.started_us + timeout_ms * 1000
        if call.method[:1] == "$":
            if call.method == "$echo" and call.descriptor == ECHO:
                self.replies += 1
                return call._answer(call.arguments[0], None)
            if call.method in ("$invoke", "$invokeAsync") and call.descriptor == GENERIC:
                call.generic = call.attachments.get("generic") or "true"
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
            if call.generic not in ("true", "gson"):
                raise UsageError(f"generic={call.generic:.40} is not supported, but true and gson")
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
                    None if each is None else msgspec.json.decode(each) for each in arguments
                ]
        except (DragomanError, msgspec.DecodeError, TypeError) as error:
            return call.refuse(
                DUBBO_BAD_REQUEST, f"Fail to decode request due to: {_words(error)}"
            )
        call.method = name
        call.arguments = arguments
        service = self.find_service(call.path, call.version, call.attachments.get("group"))
        bound = service.find(name, descriptor)
        if bound is None or len(bound.decoders) != len(arguments):
            return call._answer(None, JavaError(
                _no_method(call, descriptor), java_class="java.lang.NoSuchMethodException"
            ))
        return self._bind(call, bound)

    def _bind(self, ServedCall call, Bound bound):
        """Fit the arguments to the method's annotations, and run it."""
        cdef Py_ssize_t i
        cdef dict memo = None
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
                f"{bound.method}: argument {i + 1}, {bound.method.names[i]!r}: {_words(error)}",
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
            self.turn.wheel.schedule(call, call.due_us)
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
        except (Exception, asyncio.CancelledError) as error:
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

    cdef int _write_value(self, ServedCall call, Buffer out, value) except -1:
        """The body of a reply with a value, or null."""
        cdef Hessian2Writer writer = self._writer
        cdef bint more = bool(call.reply_attachments) and call.takes_attachments
        cdef str descriptor = None
        if call.bound is not None and call.generic is None:
            descriptor = call.bound.descriptor
        if call.serialization != DUBBO_HESSIAN2:
            out.write(encode_reply(
                value, attachments=call.reply_attachments if more else None,
                serialization=call.serialization, type=descriptor,
            ))
            return 0
        writer.start(out, DEPTH)
        writer.int32((2 if value is None else 1) + (3 if more else 0))
        if value is not None:
            if descriptor is None:
                writer.value(value)
            else:
                writer.typed(value, descriptor)
        if more:
            writer.text_map(call.reply_attachments)
        return 0

    def _write_exception(self, ServedCall call, Buffer out, error):
        """The body of a reply with an exception."""
        cdef Hessian2Writer writer = self._writer
        cdef bint more = bool(call.reply_attachments) and call.takes_attachments
        thrown = throwable_of(error, call.generic is not None)
        if call.serialization != DUBBO_HESSIAN2:
            out.write(encode_reply(
                exception=thrown, attachments=call.reply_attachments if more else None,
                serialization=call.serialization,
            ))
            return
        writer.start(out, DEPTH)
        writer.int32(3 if more else 0)
        writer.value(thrown)
        if more:
            writer.text_map(call.reply_attachments)

    # Life

    def announce_stop(self):
        """Tell every connection that this provider is about to stop (the event ``R``)."""
        cdef ServiceConnection connection
        self.draining = True
        for connection in list(self.connections):
            write_readonly(connection.out, 0, DUBBO_HESSIAN2)
            self.turn.mark(connection)

    def close(self, *, at_once=False):
        """Close every connection, once what has been written is sent, or at once; calls at work go
        on, but nobody hears of them.
        """
        cdef ServiceConnection connection
        self.closed = True
        for connection in list(self.connections):
            connection.close()
            if at_once:
                connection.transport.abort()
        providers = _providers.get(self.loop)
        if providers is not None and self in providers:
            providers.remove(self)

    @property
    def open_connections(self):
        """How many connections there are now."""
        return len(self.connections)

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


cdef class ServiceConnection(Gathering):
    """One connection: an ``asyncio.Protocol``."""

    def __init__(self, Provider provider not None):
        self.loop = provider.loop
        self.provider = provider
        self.decoder = DubboDecoder(payload_bytes_max=provider.payload_bytes_max)
        self.out = Buffer()
        self.peer = "?"

    def connection_made(self, transport):
        """The loop: a peer has connected."""
        cdef Provider provider = self.provider
        self.transport = transport
        if provider.closed:
            self.closed = True
            transport.abort()
            return
        if len(provider.connections) >= provider.clients_max:
            log.warning("a connection beyond %d is refused", provider.clients_max)
            self.closed = True
            transport.abort()
            return
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple) and len(name) >= 2:
            self.peer = f"{name[0]}:{name[1]}"
        provider.connections.add(self)
        provider.connected += 1
        if provider.draining:
            write_readonly(self.out, 0, DUBBO_HESSIAN2)
            provider.turn.mark(self)
        self.read_us = provider.turn.wheel.clock_us()
        provider.turn.wheel.schedule(self, self.read_us + provider.idle_us)

    def connection_lost(self, error):
        """The loop: the connection is gone. What runs goes on, and nobody hears of it."""
        self.closed = True
        self.provider.connections.discard(self)
        if self._wheel is not None:
            self._wheel.cancel(self)

    def pause_writing(self):
        """The loop: the peer does not read its replies, so its requests wait."""
        if not self.closed:
            self.transport.pause_reading()

    def resume_writing(self):
        """The loop: the peer reads again."""
        if not self.closed:
            self.transport.resume_reading()

    def eof_received(self):
        """The loop: the peer sends no more. Replies still under way go out before the close."""
        self.half_closed = True
        return self.owed > 0

    def data_received(self, bytes data not None):
        """The loop: bytes have come."""
        cdef Provider provider = self.provider
        cdef DubboDecoder frame = self.decoder
        cdef int outcome = DUBBO_FRAME
        self.read_us = provider.turn.wheel.clock_us()
        provider.turn.read_begins()
        try:
            frame.receive(data)
            while not self.closed:
                outcome = frame.next_frame()
                if outcome != DUBBO_FRAME:
                    break
                if frame.is_event:
                    self._event()
                elif frame.is_request:
                    provider.serve(self)
                # A reply answers nothing that this side asked: dropped.
            if outcome == DUBBO_ERROR and not self.closed:
                # Telnet, HTTP, or a frame that is none: there is no way back into step.
                provider.refused += 1
                log.info("%s: closing the connection: %s", self.peer, frame.error)
                self.close()
        finally:
            provider.turn.read_ends(self.read_us)

    cdef int _event(self) except -1:
        """Answer a heartbeat; any other event says nothing to a provider."""
        cdef DubboDecoder frame = self.decoder
        if frame.is_request and frame.two_way \
                and event_kind(frame.body, frame.body_length) == DUBBO_EVENT_HEARTBEAT:
            self.provider.heartbeats += 1
            write_heartbeat_reply(
                self.out, frame.id, frame.serialization, frame.body, frame.body_length
            )
            self.provider.turn.mark(self)
        return 0

    cdef int error(self, uint64_t id, int serialization, int status, str text) except -1:
        """Answer a request with a status other than 20."""
        cdef bytes utf8 = text[:TEXT_MAX].encode("utf-8", "replace")
        if not self.closed:
            write_error_reply(
                self.out, id, serialization, status, PyBytes_AS_STRING(utf8),
                PyBytes_GET_SIZE(utf8),
            )
            self.provider.turn.mark(self)
        return 0

    cdef void flush(self):
        if self.out.length and not self.closed:
            self.transport.write(self.out.take())
        if self.half_closed and self.owed == 0 and not self.closed:
            self.transport.close()

    cdef void on_due(self):
        """A peer that is silent for long is let go: a live one would have sent a heartbeat."""
        cdef Provider provider = self.provider
        cdef int64_t due_us = self.read_us + provider.idle_us
        if self.closed:
            return
        if self.owed == 0 and provider.turn.wheel.clock_us() >= due_us:
            log.info("%s: closing the connection: silent for too long", self.peer)
            self.close()
            return
        if due_us <= provider.turn.wheel.clock_us():
            due_us = provider.turn.wheel.clock_us() + provider.idle_us
        provider.turn.wheel.schedule(self, due_us)

    def close(self):
        """Send what there is, and close."""
        if not self.closed:
            self.flush()
            self.closed = True
            if self._wheel is not None:
                self._wheel.cancel(self)
            self.transport.close()


cdef class ServedCall(Timed):
    """A request at work. Calling it with a finished task or future ends it."""

    cdef int _await(self, awaitable) except -1:
        """Make a task of what the function returned."""
        token = _call.set(self)
        try:
            if asyncio.iscoroutine(awaitable):
                self.task = self.provider._create_task(awaitable)
            else:
                self.task = asyncio.ensure_future(awaitable, loop=self.provider.loop)
        except Exception as error:
            # A future of another loop, say.
            return self.end(None, error)
        finally:
            _call.reset(token)
        self.task.add_done_callback(self)
        return 0

    def __call__(self, task):
        self.task = None
        if task.cancelled():
            self.end(None, asyncio.CancelledError("the handler was cancelled"))
            return
        error = task.exception()
        self.end(None if error is not None else task.result(), error)

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
                self.provider.turn.mark(self.connection)
            return 0
        if error is None:
            encode = self.bound.encode if self.generic is None else self.bound.encode_inner
            try:
                if encode is not None:
                    result = encode(result)
                if self.generic is not None:
                    result = generalized(result)
                    if self.generic == "gson":
                        result = msgspec.json.encode(result, enc_hook=str).decode()
            except (Misfit, RecursionError, TypeError, ValueError) as misfit:
                error = TypeError(f"{self.bound.method}: result: {_words(misfit)}")
        if error is None:
            self.provider.replies += 1
        else:
            self.provider.exceptions += 1
            if not isinstance(error, DragomanError):
                log.error(
                    "%s: %s raised", self.connection.peer, self.bound.method, exc_info=error
                )
        return self._answer(result, error)

    cdef int _answer(self, result, error) except -1:
        """Write the reply, if there is to be one."""
        cdef ServiceConnection connection = self.connection
        cdef Buffer out = connection.out
        cdef size_t start = out.length
        self.answered = True
        if connection.half_closed:
            self.provider.turn.mark(connection)
        if not self.two_way or connection.closed:
            return 0
        if isinstance(error, OverloadError) and error.retry_safe:
            # The function says that it has done nothing.
            return connection.error(
                self.id, self.serialization, DUBBO_POOL_EXHAUSTED, _words(error)
            )
        begin_frame(out, <uint8_t>self.serialization, DUBBO_OK, self.id)
        try:
            if error is not None:
                self.provider._write_exception(self, out, error)
            else:
                self.provider._write_value(self, out, result)
            if <Py_ssize_t>(out.length - start) - DUBBO_HEADER_BYTES \
                    > self.provider.payload_bytes_max:
                raise UsageError(
                    f"Data length too large: {out.length - start - DUBBO_HEADER_BYTES}, "
                    f"max payload: {self.provider.payload_bytes_max}"
                )
        except (Exception, RecursionError) as problem:
            # Half a frame would be the end of all that comes after it.
            out.length = start
            log.error("%s: a reply cannot be sent: %s", connection.peer, problem)
            return connection.error(
                self.id, self.serialization, DUBBO_BAD_RESPONSE,
                f"Failed to send response, cause: {_words(problem)}",
            )
        end_frame(out, start)
        self.provider.turn.mark(connection)
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
            left_us = self.due_us - self.provider.turn.wheel.clock_us()
            timeout_ms = max(0, left_us // 1000)
        if self.reply_attachments is None:
            self.reply_attachments = {}
        group = self.attachments.get("group", "")
        return RequestInfo(
            self.path, self.method, self.version or "", group, self.connection.peer,
            self.attachments, self.reply_attachments, timeout_ms, not self.two_way,
        )


def _nothing(value):
    return None


cdef bint _takes_attachments(str version):
    """Whether who claims this version of the protocol reads attachments in replies: 2.0.2 to
    2.0.99.
    """
    if version is None or version[:4] != "2.0.":
        return False
    patch = version[4:]
    return patch.isascii() and patch.isdigit() and 2 <= int(patch) <= 99


cdef int64_t _timeout_ms(dict attachments) except -1:
    """What the caller says that the call may take, or 0."""
    cdef int64_t least = 0, given
    cdef str name
    for name in ("_TO", "timeout"):
        text = attachments.get(name)
        if text is not None and text.isascii() and text.isdigit() and len(text) < 10:
            given = int(text)
            if given > 0 and (least == 0 or given < least):
                least = given
    return least


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


def _words(error):
    """An error's text, whatever it is."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return (text or type(error).__name__)[:TEXT_MAX]


def throwable_of(error, generic=False):
    """The Java exception that an exception of Python travels as, a Bean."""
    if isinstance(error, JavaError):
        java_class = error.java_class
        fields = dict(error.fields)
        message = str(error)
    else:
        java_class = JavaError.java_class
        fields = {}
        message = _words(error)
    if generic:
        # Who calls generically need not have the class.
        fields = {"exceptionClass": java_class, "exceptionMessage": message}
        java_class = GENERIC_EXCEPTION
    return Bean(java_class, {
        "detailMessage": message,
        "stackTrace": TypedList("[java.lang.StackTraceElement"),
        **fields,
    })


def generalized(value, _memo=None):
    """A value as generic callers get it: beans as maps with their class under ``class``."""
    if isinstance(value, dict):
        if _memo is None:
            _memo = {}
        if id(value) in _memo:
            return _memo[id(value)]
        made = _memo[id(value)] = {}
        java_class = getattr(value, "java_class", None)
        if isinstance(value, Bean):
            if java_class in ENUMS:
                return value.get("name")
            made["class"] = java_class
        for key, item in value.items():
            made[key] = generalized(item, _memo)
        return made
    if isinstance(value, (list, tuple, set, frozenset)):
        if _memo is None:
            _memo = {}
        if id(value) in _memo:
            return _memo[id(value)]
        items = _memo[id(value)] = []
        items.extend([generalized(item, _memo) for item in value])
        return items
    return value


def current_request():
    """What a method may know of the request that it answers, as a RequestInfo.

    Works in the method itself and in whatever it awaits or starts. Raises UsageError elsewhere.
    """
    cdef ServedCall call = _call.get()
    cdef Provider provider
    if call is None and (loop := asyncio._get_running_loop()) is not None:
        for provider in _providers.get(loop, ()):
            if provider._running is not None:
                call = provider._running
                break
    if call is None:
        raise UsageError("current_request() is for methods that serve requests")
    return call.info()
