"""The calling end of Dubbo: arguments to bytes, calls through a service's pool, replies to values.

``dubbo.client.hub`` makes a ``JavaPool`` for each service that a program calls, and a
``RemoteMethod`` for each of its methods. Calls are the pool's: found, balanced, bounded and retried
as all calls of ``cluster`` are, by the mesh method ``hessian2`` (``docs/formats/calls.md``).

Invariants: a call ends exactly once; what a provider names is never looked up, except among the
exception classes that the caller declared.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t

from dragoman.cluster.calls cimport PoolCall
from dragoman.cluster.pool cimport Pool
from dragoman.cluster.service cimport Service
from dragoman.dubbo.types.natural cimport natural_descriptor, plain_value
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer

from asyncio import InvalidStateError
from collections.abc import Mapping

from dragoman.dubbo.no_method import says_no_such_method
from dragoman.dubbo.types.info import Result
from dragoman.dubbo.types.natural import ANY, descriptors_of
from dragoman.dubbo.types.scalars import Misfit
from dragoman.errors import Code, DragomanError, JavaError, ProtocolError, UsageError
from dragoman.options import flag, shown
from dragoman.rpc.arguments import timeout_us as checked_timeout_us
from dragoman.wire.java.descriptor import java_name
from dragoman.wire.hessian2 import CONTAINERS_MAX, DEPTH_MAX
from dragoman.wire.java import TypedList

GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
# What a Java provider wraps exceptions in for generic callers.
GENERIC_EXCEPTIONS = (
    "org.apache.dubbo.rpc.service.GenericException",
    "com.alibaba.dubbo.rpc.service.GenericException",
)

# Ended calls that may be free to be used again.
cdef Py_ssize_t FREE_MAX = 4096
# How much of an exception's message is searched for what it means.
cdef Py_ssize_t TEXT_LOOKED_AT = 8192
cdef int C_NOT_FOUND = Code.NOT_FOUND
# Prefixes of calls, by their descriptors, that a method caches.
cdef Py_ssize_t PREFIXES_MAX = 256
cdef int DEPTH = DEPTH_MAX
cdef Py_ssize_t CONTAINERS = CONTAINERS_MAX
cdef bytes METHOD = b"hessian2"
cdef bytes METHOD_ONE_WAY = b"hessian2-oneway"

cdef class JavaPool(Pool):
    """All providers of one service. ``create_future`` makes the futures of its calls."""

    def __init__(
        self, loop, Service service not None, str interface not None, str group not None,
        str version not None, *, timeout_ms=None, create_future=None,
    ):
        Pool.__init__(self, loop, service, timeout_ms=timeout_ms, create_future=create_future)
        self.interface = interface
        self.group = group
        self.version = version
        self._out = Buffer()
        self._reader = Hessian2Reader(b"N")
        self._writer = Hessian2Writer()
        self._free_calls = []

    cdef object _start(self, RemoteMethod caller, bytes body):
        """Make a call; returns its future."""
        cdef JavaCall call
        cdef object future
        cdef int64_t due_us = 0
        if PyList_GET_SIZE(self._free_calls):
            call = <JavaCall>self._free_calls.pop()
        else:
            call = JavaCall.__new__(JavaCall)
            call.account = self
        future = self.new_future()
        call.future = future
        call.caller = caller
        if caller.timeout_us:
            due_us = self._service.tick.now_us() + caller.timeout_us
        call.body = PyBytes_AS_STRING(body)
        self._launch(call, METHOD_ONE_WAY if caller.one_way else METHOD, body, due_us, None, None)
        return future

    cdef object read_reply(self, JavaCall call, const char* body, Py_ssize_t n):
        """The result that a reply's body holds, or the error that it is."""
        cdef Hessian2Reader reader = self._reader
        cdef RemoteMethod caller = call.caller
        cdef dict attachments = None
        cdef object value = None
        cdef int kind
        if caller.one_way:
            return None
        reader.start(None, <const uint8_t*>body, n, False, DEPTH, CONTAINERS)
        kind = reader.int32()
        if not 0 <= kind <= 5:
            raise ProtocolError(f"{caller}: a reply of type {kind}")
        if kind % 3 != 2:
            value = reader.value()
        if kind >= 3 and reader.at < reader.n:
            attachments = reader.text_map()
        if kind % 3 == 0:
            raise call._error_of(value, attachments)
        if caller._decode is not None:
            try:
                value = caller._decode(value, {})
            except Misfit as error:
                raise ProtocolError(f"{caller}: result: {error}") from None
        if caller.whole:
            return Result(value, attachments or {})
        return value


cdef class JavaCall(PoolCall):
    """A call whose caller awaits ``future``."""

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        cdef JavaPool pool = <JavaPool>self.account
        cdef object future = self.future
        pool.replies += 1
        try:
            result = pool.read_reply(self, body, n)
        except DragomanError as error:
            _fail(future, error)
        except RecursionError:
            _fail(future, ProtocolError(f"{self.caller}: a reply that is nested too deeply"))
        except Exception as error:
            # A declared class that refuses what came, say.
            _fail(future, error)
        else:
            try:
                future.set_result(result)
            except InvalidStateError:
                # Cancelled a moment ago.
                pass
        self.future = None
        self.caller = None
        self.body_owner = None
        self.failed_at = None
        if PyList_GET_SIZE(pool._free_calls) < FREE_MAX:
            pool._free_calls.append(self)

    cdef void on_failure(self, int code, str message):
        _fail(self.future, self.error_of(code, f"{self.caller}: {message}"))

    cdef bint forgotten(self):
        return self.future is not None and self.future.cancelled()

    cdef object _error_of(self, value, dict attachments):
        """The exception that a throwable is."""
        cdef dict fields
        cdef str java_class = "java.lang.Throwable"
        cdef object message = None
        if isinstance(value, dict):
            fields = dict(value)
            java_class = getattr(value, "java_class", None) or java_class
            for name in ("detailMessage", "message", "localizedMessage"):
                message = fields.pop(name, None) or message
            if java_class in GENERIC_EXCEPTIONS and fields.get("exceptionClass"):
                java_class = str(fields.pop("exceptionClass"))
                message = fields.pop("exceptionMessage", message)
            if isinstance(fields.get("cause"), dict) and fields["cause"] is value:
                # That is how Java says that there is none.
                del fields["cause"]
        else:
            fields = {}
            message = value
        message = "" if message is None else str(message)
        if says_no_such_method(" ".join(f"{java_class}: {message[:TEXT_LOOKED_AT]}".split())):
            self.never_ran = True
            return self.error_of(C_NOT_FOUND, f"{self.caller}: {java_class}: {message}")
        kind = None if self.caller._errors is None else self.caller._errors.get(java_class)
        try:
            error = JavaError(message) if kind is None else kind(message)
        except TypeError:
            error = JavaError(message)
        error.java_class = java_class
        error.fields = fields
        error.attachments = attachments or {}
        return error


cdef int _fail(future, error) except -1:
    if not future.done():
        future.set_exception(error)
    return 0


def checked_attachments(attachments):
    """The texts that go with a call; raises UsageError."""
    if attachments is None:
        return {}
    if not isinstance(attachments, Mapping):
        raise UsageError(f"attachments: expected texts by name, not {shown(attachments)}")
    for name, value in attachments.items():
        if type(name) is not str or type(value) is not str:
            raise UsageError(f"attachments: expected text, not {name!r:.60}: {value!r:.60}")
    return attachments


cdef class RemoteMethod:
    """One method of a service, to be called: ``caller(*args)`` gives a future.

    ``method`` is what a declaration says of it, or None: then the Java types are those of the
    arguments, or ``types``. ``options``: ``timeout_ms``, ``attachments``, ``types``, ``generic``,
    ``one_way`` and ``whole`` (the future is of a Result).
    """

    def __init__(self, JavaPool pool not None, str name not None, method, dict options not None):
        cdef int count
        self.pool = pool
        self.name = name
        self.method = method
        self.options = options
        self.generic = flag("generic", options.get("generic", False))
        self.one_way = bool(options.get("one_way"))
        self.whole = bool(options.get("whole"))
        timeout_ms = options.get("timeout_ms")
        self.timeout_us = 0 if timeout_ms is None else checked_timeout_us(timeout_ms)
        for part in (pool.interface, name, pool.group, pool.version):
            if "\0" in part:
                raise UsageError(f"{name!r:.100}: a name with a NUL in it")
        called = "$invoke" if self.generic else name
        self._head = "\0".join((pool.interface, called, pool.group, pool.version, "")).encode()
        self._attachments = self._encoded_attachments()
        self._prefixes = {}
        self._types = options.get("types")
        if self._types is not None:
            # Looked at before anything is called; a descriptor will do as well.
            self._types = descriptors_of(self._types)
        self._least = 0
        self._most = 255
        if method is not None:
            self._errors = method.errors
            self._decode = method.result.decode
            self._least = method.least
            self._most = len(method.parameters)
            self._encoders = tuple([mapping.encode for mapping in method.parameters])
            self._descriptors = tuple([mapping.descriptor for mapping in method.parameters])
            if ANY in self._descriptors and self._types is None:
                # What takes anything is called by the types of what it is given.
                self._descriptors = None
            else:
                self._by_count = [
                    self._prefix(method.descriptor(count)) for count in range(self._most + 1)
                ]

    def _encoded_attachments(self):
        """The map of the call's attachments in a stream of its own; empty if there are none."""
        cdef Buffer out = Buffer()
        cdef dict given = {}
        given.update(checked_attachments(self.options.get("attachments")))
        if self.generic:
            given["generic"] = "true"
        if not given:
            return b""
        self.pool._writer.start(out, DEPTH)
        self.pool._writer.text_map(given)
        return out.take()

    def with_options(self, **options):
        """The same method with other options."""
        return RemoteMethod(self.pool, self.name, self.method, {**self.options, **options})

    def variant(self, str what not None):
        """The same method ``whole`` or ``one_way``; made once."""
        cdef dict variants = self._variants
        if variants is None:
            variants = self._variants = {}
        found = variants.get(what)
        if found is None:
            found = variants[what] = self.with_options(**{what: True})
        return found

    def __str__(self):
        return f"{self.pool.interface}.{self.name}"

    def __repr__(self):
        return f"<method {self}>"

    def __call__(self, *args, **kwargs):
        return self.start(args, kwargs)

    def start(self, tuple args, dict kwargs):
        """Call it; returns the future."""
        cdef bytes body
        if kwargs:
            if self.method is None:
                return self._start_with(args, kwargs)
            args = self.method.arrange(args, kwargs)
        elif not self._least <= PyTuple_GET_SIZE(args) <= self._most:
            if self.method is None:
                raise UsageError(f"{self}: at most 255 arguments, not {len(args)}")
            args = self.method.arrange(args, kwargs)
        try:
            if self.generic:
                body = self._generic_body(args)
            elif self._by_count is not None:
                body = self._typed_body(args)
            else:
                body = self._natural_body(args)
        except (UsageError, Misfit, RecursionError) as error:
            self.pool._out.clear()
            raise UsageError(f"{self}: {error}") from None
        except BaseException:
            self.pool._out.clear()
            raise
        return self.pool._start(self, body)

    def _start_with(self, args, kwargs):
        """A call with options of its own."""
        for name in kwargs:
            if name not in OPTIONS:
                raise UsageError(f"{self}: no option {name!r}; Java knows arguments by position")
        return self.with_options(**kwargs).start(args, {})

    # The body: names, each with a NUL; the length of the arguments; these; attachments

    cdef bytes _prefix(self, str descriptor):
        """The names of a call with this descriptor."""
        cdef bytes prefix = self._prefixes.get(descriptor)
        if prefix is None:
            prefix = self._head + descriptor.encode() + b"\0\0\0\0\0"
            if len(self._prefixes) >= PREFIXES_MAX:
                self._prefixes.clear()
            self._prefixes[descriptor] = prefix
        return prefix

    cdef bytes _finish(self, Py_ssize_t start):
        """The body that has been written; its arguments begin at ``start``."""
        cdef Buffer out = self.pool._out
        cdef uint32_t length = <uint32_t>(<Py_ssize_t>out.length - start)
        cdef uint8_t* p = <uint8_t*>out.data + start - 4
        p[0] = <uint8_t>(length >> 24)
        p[1] = <uint8_t>(length >> 16)
        p[2] = <uint8_t>(length >> 8)
        p[3] = <uint8_t>length
        if PyBytes_GET_SIZE(self._attachments):
            out.append(PyBytes_AS_STRING(self._attachments), PyBytes_GET_SIZE(self._attachments))
        return out.take()

    cdef bytes _typed_body(self, tuple args):
        """A call whose parameters have been declared."""
        cdef JavaPool pool = self.pool
        cdef Buffer out = pool._out
        cdef Hessian2Writer writer = pool._writer
        cdef Py_ssize_t i, count = PyTuple_GET_SIZE(args), start
        cdef bytes prefix = <bytes>self._by_count[count]
        cdef object value
        out.append(PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        start = out.length
        writer.start(out, DEPTH)
        for i in range(count):
            value = args[i]
            encode = self._encoders[i]
            try:
                if encode is not None:
                    value = encode(value)
                writer.typed(value, <str>self._descriptors[i])
            except (Misfit, UsageError) as error:
                raise UsageError(
                    f"argument {i + 1}, {self.method.names[i]!r}: {error}"
                ) from None
        return self._finish(start)

    cdef bytes _natural_body(self, tuple args):
        """A call whose parameters' types are those named, or those of the arguments."""
        cdef JavaPool pool = self.pool
        cdef Buffer out = pool._out
        cdef Hessian2Writer writer = pool._writer
        cdef Py_ssize_t i, count = PyTuple_GET_SIZE(args), start
        cdef bytes prefix
        cdef list types = self._types
        cdef str descriptor
        if types is None:
            types = [natural_descriptor(value) for value in args]
            if self.method is not None:
                types = [
                    asked if asked != ANY else given
                    for asked, given in zip(
                        [mapping.descriptor for mapping in self.method.parameters], types
                    )
                ]
        elif PyList_GET_SIZE(types) != count:
            raise UsageError(f"{len(types)} types for {count} arguments")
        descriptor = <str>types[0] if count == 1 else "".join(types)
        prefix = self._prefix(descriptor)
        out.append(PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        start = out.length
        writer.start(out, DEPTH)
        for i in range(count):
            try:
                writer.typed(plain_value(args[i]), <str>types[i])
            except (Misfit, UsageError) as error:
                raise UsageError(f"argument {i + 1}: {error}") from None
        return self._finish(start)

    cdef bytes _generic_body(self, tuple args):
        """A call of $invoke: the method, its types and arguments are the arguments."""
        cdef JavaPool pool = self.pool
        cdef Buffer out = pool._out
        cdef Hessian2Writer writer = pool._writer
        cdef Py_ssize_t i, start
        cdef bytes prefix = self._prefix(GENERIC)
        cdef list values
        names = None
        if self._types is not None:
            if len(self._types) != len(args):
                raise UsageError(f"{len(self._types)} types for {len(args)} arguments")
            names = TypedList("[string", [java_name(each) for each in self._types])
        elif self.method is not None:
            names = TypedList(
                "[string", [java_name(m.descriptor) for m in self.method.parameters[:len(args)]]
            )
        if self.method is not None:
            values = [
                value if mapping.encode_inner is None else mapping.encode_inner(value)
                for value, mapping in zip(args, self.method.parameters)
            ]
        else:
            values = [plain_value(value) for value in args]
        out.append(PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        start = out.length
        writer.start(out, DEPTH)
        writer.text(self.name)
        writer.value(names)
        writer.value(TypedList("[object", values))
        return self._finish(start)


OPTIONS = frozenset(("timeout_ms", "attachments", "types", "generic", "one_way", "whole"))
