"""Dubbo out: the provider agent's side of each request.

Requests come as mesh frames whose body is the caller's form, or a JSON call; they become Dubbo
requests straight in the buffer of the connection to the provider, and the provider's replies
become mesh replies. ``agent.provider`` puts it behind a listening socket.

Invariants: never more requests at the provider than the pool's limit, for a request keeps its
credit until the provider has answered it, even when its caller has long been told that the
deadline passed; every request is answered once.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memset

from dragoman.dubbo.link cimport DubboCall, DubboConnection, DubboLink
from dragoman.flow.credits cimport CreditPool
from dragoman.observe.histogram cimport Histogram
from dragoman.rpc.server_session cimport Handler, ServerSession
from dragoman.rpc.turn cimport turn_of
from dragoman.wire.descriptor cimport descriptor_count
from dragoman.wire.dubbo cimport (
    DUBBO_BAD_REQUEST, DUBBO_CLIENT_TIMEOUT, DUBBO_FASTJSON, DUBBO_HEADER_BYTES, DUBBO_OK,
    DUBBO_PAYLOAD_BYTES_MAX, DUBBO_POOL_EXHAUSTED,
    DUBBO_SERVER_TIMEOUT, DUBBO_SERVICE_NOT_FOUND, error_text,
)
from dragoman.wire.fastjson cimport (
    FASTJSON_OK, REPLY_EXCEPTION, FastjsonReply, Invocation, fastjson_problem,
    read_reply, write_json_request, write_string_request,
)
from dragoman.wire.form cimport FORM_REPEATED, FORM_TOO_MANY, FormField, decode, read_known_fields
from dragoman.wire.jsonstring cimport JSON_OK, JSON_TYPE_NAMED, Slice, json_string_to_utf8
from dragoman.wire.jsontext cimport json_names_a_type, write_strict_json
from dragoman.wire.throwable cimport exception_text

import logging

import msgspec

from dragoman.errors import Code, UsageError
from dragoman.wire.descriptor import descriptor_of

cdef enum:
    METHOD_FORM = 0
    METHOD_JSON = 1
    ARGUMENTS_MAX = 255
    PATIENCE_MAX = 1024
    FORM_FIELDS_MAX = 64

# A request that the provider never answered keeps its place this long after its deadline: an old
# provider whose pool is exhausted answers nothing at all, and must not lose its places for ever.
cdef int64_t FORGET_US = 60_000_000
METHODS = {b"form": METHOD_FORM, b"json": METHOD_JSON}

log = logging.getLogger("dragoman.agent")

cdef int C_INTERNAL = Code.INTERNAL
cdef int C_MALFORMED = Code.MALFORMED
cdef int C_NOT_FOUND = Code.NOT_FOUND
cdef int C_OVERLOAD = Code.OVERLOAD
cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_DEADLINE = Code.DEADLINE
cdef int C_CANCELLED = Code.CANCELLED
cdef int C_REMOTE = Code.REMOTE
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL
cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST
cdef int C_TOO_LARGE = Code.TOO_LARGE

cdef const char* FIELD_NAMES[4]
FIELD_NAMES[:] = ["interface", "method", "parameterTypesString", "parameter"]
cdef Py_ssize_t FIELD_LENGTHS[4]
FIELD_LENGTHS[:] = [9, 6, 20, 9]


class JsonArguments(msgspec.Struct):
    """The part of a JSON call that the provider's side reads."""

    types: list[str] | None = None
    args: list[msgspec.Raw] = []


_arguments = msgspec.json.Decoder(JsonArguments)


cdef class Egress(Handler):
    """Turns requests from mesh sessions into calls on ``link``; ``pool`` holds the provider's
    credits."""

    def __init__(
        self, loop, DubboLink link, CreditPool pool, *, str group="", str version="",
        bint learning=False, int limit_max=10000, uint32_t timeout_ms=600000,
    ):
        self.loop = loop
        self.turn = turn_of(loop)
        self.link = link
        self.pool = pool
        self.learning = learning
        self._limit_max = limit_max
        self._patience = 1
        self._timeout_ms = timeout_ms
        self._group = group.encode() if group else None
        self._version = version.encode() if version else None
        self._scratch = Buffer()
        self.errors = {}
        self.latency = Histogram()

    cdef int method(self, bytes name) except -1:
        return METHODS.get(name, -2)

    cdef bint on_request(
        self, ServerSession session, uint32_t id, uint16_t method, uint32_t timeout_ms,
        const char* body, Py_ssize_t n, bytes owner
    ) except -1:
        cdef EgressCall call = EgressCall.__new__(EgressCall)
        cdef DubboConnection connection = self.link.pick()
        cdef size_t start
        self.requests += 1
        self.in_progress += 1
        call.egress = self
        call.session = session
        call.id = id
        if connection is None:
            self._finish(call, C_UNAVAILABLE, True, self._why_unavailable())
            return True
        if self._pressure:
            self._due_refusals += self._pressure
            if self._due_refusals >= 1.0:
                self._due_refusals -= 1.0
                self._finish(call, C_OVERLOAD, True, "the provider's agent is short of memory")
                return True
        call.started_us = session.read_us
        start = connection.out.length
        try:
            if method == METHOD_FORM:
                self._form(call, connection, body, n)
            else:
                self._json(call, connection, body, n)
        except UsageError as error:
            if call.connection is not None:
                call.connection.undo(call)
            self._finish(call, C_MALFORMED, False, str(error))
            return True
        except Exception as error:
            # Our own fault, or no memory: a request that got lost here would keep its credit for
            # ever.
            log.exception("a request could not be made a call")
            if call.connection is not None:
                call.connection.undo(call)
            connection.out.length = start
            self._finish(call, C_INTERNAL, False, f"{type(error).__name__}: {error}")
            return True
        if connection.out.length - start > DUBBO_HEADER_BYTES + DUBBO_PAYLOAD_BYTES_MAX:
            # The provider would end the connection, and with it what others have there.
            connection.undo(call)
            connection.out.length = start
            self._finish(
                call, C_TOO_LARGE, False,
                f"the call is over Dubbo's {DUBBO_PAYLOAD_BYTES_MAX} bytes as fastjson",
            )
            return True
        connection.sent()
        if timeout_ms > self._timeout_ms:
            timeout_ms = self._timeout_ms
        self.turn.wheel.schedule(call, call.started_us + <int64_t>timeout_ms * 1000)
        return True

    def shed(self, double proportion):
        """From now on refuse this proportion of requests, 0.0 to 1.0: the process is short of
        memory."""
        self._pressure = proportion

    def _why_unavailable(self):
        for connection in self.link.connections:
            return "the provider is shutting down"
        return f"the provider cannot be reached: {self.link.reason or 'not connected yet'}"

    cdef void _invocation(self, Invocation* to) noexcept:
        memset(to, 0, sizeof(Invocation))
        if self._group is not None:
            to.group.data = PyBytes_AS_STRING(self._group)
            to.group.length = len(self._group)
        if self._version is not None:
            to.service_version.data = PyBytes_AS_STRING(self._version)
            to.service_version.length = len(self._version)

    cdef bint _form(
        self, EgressCall call, DubboConnection connection, const char* body, Py_ssize_t n
    ) except -1:
        """The contest's form, in whatever order its fields come."""
        cdef FormField fields[4]
        cdef Slice values[4]
        cdef Slice argument
        cdef Invocation invocation
        cdef Py_ssize_t decoded
        cdef size_t room = 0
        cdef char* at
        cdef int found, parameters, i
        found = read_known_fields(body, n, FIELD_NAMES, FIELD_LENGTHS, 4, FORM_FIELDS_MAX, fields)
        if found < 0:
            raise UsageError(_form_problem(found))
        for i in range(4):
            if fields[i].value == NULL and i != 3 and i != 2:
                raise UsageError(f"the form field {(<bytes>FIELD_NAMES[i]).decode()} is missing")
            if fields[i].value_encoded:
                room += fields[i].value_length
        self._scratch.clear()
        at = self._scratch.reserve(room + 1)
        for i in range(4):
            values[i].data = fields[i].value
            values[i].length = fields[i].value_length
            if fields[i].value_encoded:
                decoded = decode(fields[i].value, fields[i].value_length, at)
                if decoded < 0:
                    raise UsageError(
                        f"the form field {(<bytes>FIELD_NAMES[i]).decode()} "
                        "holds a malformed escape"
                    )
                values[i].data = at
                values[i].length = decoded
                at += decoded
        if values[2].data == NULL:
            values[2].data = b""
        self._invocation(&invocation)
        invocation.interface = values[0]
        invocation.method = values[1]
        invocation.descriptor = values[2]
        if values[2].length == 18 and values[2].data[:18] == b"Ljava/lang/String;":
            if values[3].data == NULL:
                raise UsageError("the form field parameter is missing")
            found = write_string_request(
                connection.out, connection.begin(call), &invocation,
                values[3].data, values[3].length
            )
        else:
            # Any other type: the parameter is the argument as JSON.
            parameters = descriptor_count(values[2].data, values[2].length)
            if parameters < 0:
                raise UsageError(
                    "the form field parameterTypesString is no JVM parameter descriptor"
                )
            if parameters > 1:
                raise UsageError("a form carries one parameter: use the JSON contract for more")
            if parameters == 1:
                if values[3].data == NULL:
                    raise UsageError("the form field parameter is missing")
                check_argument("the form field parameter", values[3].data, values[3].length)
                argument = values[3]
            found = write_json_request(
                connection.out, connection.begin(call), &invocation, &argument, parameters
            )
        if found != FASTJSON_OK:
            raise UsageError(f"the form cannot be sent: {fastjson_problem(found).decode()}")
        return True

    cdef bint _json(
        self, EgressCall call, DubboConnection connection, const char* body, Py_ssize_t n
    ) except -1:
        """``interface NUL method NUL group NUL version NUL`` and the JSON object of types and
        args."""
        cdef Slice parts[4]
        cdef Slice arguments[ARGUMENTS_MAX]
        cdef Invocation invocation
        cdef const char* at = body
        cdef const char* end = body + n
        cdef const char* nul
        cdef bytes raw, descriptor
        cdef list kept = []
        cdef Py_ssize_t i, count
        cdef int code
        call.json = True
        for i in range(4):
            nul = <const char*>memchr(at, 0, end - at)
            if nul == NULL:
                raise UsageError("a JSON call without its four names")
            parts[i].data = at
            parts[i].length = nul - at
            at = nul + 1
        try:
            asked = _arguments.decode(at[:end - at])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"body: {error}") from None
        count = len(asked.args)
        if count > ARGUMENTS_MAX:
            raise UsageError(f"args: at most {ARGUMENTS_MAX} arguments, {count} were given")
        types = asked.types
        if types is None:
            types = [_guess(argument) for argument in asked.args]
        elif len(types) != count:
            raise UsageError(f"{len(types)} types for {count} args")
        descriptor = descriptor_of(types).encode()
        for i in range(count):
            raw = bytes(asked.args[i])
            kept.append(raw)
            check_argument(f"args[{i}]", PyBytes_AS_STRING(raw), len(raw))
            arguments[i].data = PyBytes_AS_STRING(raw)
            arguments[i].length = len(raw)
        self._invocation(&invocation)
        invocation.interface = parts[0]
        invocation.method = parts[1]
        invocation.descriptor.data = PyBytes_AS_STRING(descriptor)
        invocation.descriptor.length = len(descriptor)
        code = write_json_request(
            connection.out, connection.begin(call), &invocation, arguments, count
        )
        if code != FASTJSON_OK:
            raise UsageError(f"the call cannot be sent: {fastjson_problem(code).decode()}")
        return True

    cdef void on_cancel(self, ServerSession session, uint32_t id):
        """The caller no longer waits. Dubbo cannot recall a request: it keeps its place until
        answered."""
        cdef DubboConnection connection
        cdef EgressCall call
        cdef uint64_t i
        for connection in self.link.connections:
            for i in range(connection._mask + 1):
                if connection._slots[i] == NULL:
                    continue
                call = <EgressCall>connection._slots[i]
                if call.id == id and call.session is session and not call.answered:
                    self.turn.wheel.cancel(call)
                    call.answer(C_CANCELLED, "cancelled by the caller")
                    return

    cdef void _finish(self, EgressCall call, int code, bint retry_safe, str message):
        """The request's place is free: answer it with an error unless it has been answered."""
        cdef ServerSession session = call.session
        cdef int credits = self.pool.done(session.holder)
        self.in_progress -= 1
        if call.answered:
            self.late += 1
            if credits:
                session.credit(credits)
            return
        self.count_error(code)
        session.error(call.id, code, retry_safe, message, credits)

    def count_error(self, int code):
        """Count a request that ended with an error."""
        self.errors[code] = self.errors.get(code, 0) + 1

    cdef void _learn(self, bint rejected):
        """With ``--limit auto``: find the provider's limit from its rejections.

        Until the first rejection the limit grows by an eighth whenever it has been used in full for
        as many replies; from then on by one, after twice as many replies each time.
        """
        cdef int limit = self.pool.limit
        if rejected:
            # What is still there, but for this one, fitted.
            limit = max(1, min(limit - 1, <int>self.in_progress - 1))
            if self._full_use:
                self._patience = min(self._patience * 2, PATIENCE_MAX)
            self._rejected = True
            self._full_use = 0
        elif self.in_progress >= limit and limit < self._limit_max:
            self._full_use += 1
            if self._full_use < <int64_t>limit * self._patience:
                return
            self._full_use = 0
            limit += 1 if self._rejected else max(1, limit // 8)
        else:
            return
        if limit != self.pool.limit:
            self.pool.set_limit(limit)


@cython.freelist(256)
cdef class EgressCall(DubboCall):
    """One request at the provider."""

    cdef void on_dubbo_reply(self, int status, int serialization, const char* body, Py_ssize_t n):
        cdef Egress egress = self.egress
        cdef ServerSession session = self.session
        cdef FastjsonReply reply
        cdef const char* text
        cdef Py_ssize_t length
        cdef int code
        egress.turn.wheel.cancel(self)
        if status != DUBBO_OK:
            if status == DUBBO_POOL_EXHAUSTED:
                egress.rejections += 1
                if egress.learning:
                    egress._learn(True)
            egress._finish(
                self, code_of_status(status), status == DUBBO_POOL_EXHAUSTED,
                error_text(serialization, body, n),
            )
            return
        if serialization != DUBBO_FASTJSON:
            egress._finish(
                self, C_UPSTREAM_PROTOCOL, False,
                f"the provider replied in serialization {serialization}, fastjson was asked for",
            )
            return
        code = read_reply(body, n, &reply)
        if code != FASTJSON_OK:
            egress._finish(
                self, C_UPSTREAM_PROTOCOL, False,
                f"the provider's reply is malformed: {fastjson_problem(code).decode()}",
            )
            return
        if reply.kind == REPLY_EXCEPTION:
            egress._finish(
                self, C_REMOTE, False, exception_text(reply.value.data, reply.value.length)
            )
            return
        if self.answered:
            egress._finish(self, C_DEADLINE, False, "")
            return
        if egress.learning:
            egress._learn(False)
        egress.in_progress -= 1
        egress.succeeded += 1
        (<Histogram>egress.latency).record_us(egress.link.read_us - self.started_us)
        text = reply.value.data
        length = reply.value.length
        if reply.loose:
            egress._scratch.clear()
            write_strict_json(egress._scratch, text, length)
            text = egress._scratch.data
            length = egress._scratch.length
        elif not self.json and text[0] == 34:
            # The form contract returns a string's text, not its JSON.
            egress._scratch.clear()
            length = json_string_to_utf8(text, length, egress._scratch.reserve(length))
            text = egress._scratch.data
            if length < 0:
                egress.in_progress += 1
                egress._finish(self, C_UPSTREAM_PROTOCOL, False, "the provider's string is no text")
                return
        session.reply(self.id, text, length, egress.pool.done(session.holder))

    cdef void on_dubbo_lost(self, bint sent, str why):
        self.egress.turn.wheel.cancel(self)
        self.egress._finish(self, C_UPSTREAM_LOST, not sent, why)

    cdef void on_due(self):
        """The deadline has passed, or, long after it, the provider is not expected to answer any
        more."""
        cdef Egress egress = self.egress
        if self.answered:
            if self.connection is not None:
                self.connection.forget(self)
            egress._finish(self, C_DEADLINE, False, "")
            return
        self.answer(C_DEADLINE, "the provider did not answer in time")

    def answer(self, int code, str message):
        """Answer the caller now although the provider has not: the credit stays here until it
        has."""
        cdef Egress egress = self.egress
        self.answered = True
        egress.count_error(code)
        self.session.error(self.id, code, False, message, 0)
        egress.turn.wheel.schedule(self, egress.turn.wheel.clock_us() + FORGET_US)


cdef int code_of_status(int status):
    """Dubbo's status as an error code."""
    if status == DUBBO_POOL_EXHAUSTED:
        return C_OVERLOAD
    if status == DUBBO_SERVER_TIMEOUT or status == DUBBO_CLIENT_TIMEOUT:
        return C_DEADLINE
    if status == DUBBO_SERVICE_NOT_FOUND:
        return C_NOT_FOUND
    if status == DUBBO_BAD_REQUEST:
        return C_MALFORMED
    if status == 70 or status == 80:
        return C_REMOTE
    return C_UPSTREAM_PROTOCOL


def _form_problem(int code):
    if code == FORM_REPEATED:
        return "a form field is repeated"
    if code == FORM_TOO_MANY:
        return f"a form of more than {FORM_FIELDS_MAX} fields"
    return "the form is malformed"


cdef int check_argument(str what, const char* json, Py_ssize_t n) except -1:
    """Refuse what is not one JSON value, and what would have the provider make an object of a class
    that the caller names: fastjson obeys ``@type``, and a caller over HTTP may be anybody."""
    cdef int code = json_names_a_type(json, n)
    if code == JSON_TYPE_NAMED:
        raise UsageError(f"{what}: @type is not passed on; name the type in types")
    if code != JSON_OK:
        raise UsageError(f"{what}: {fastjson_problem(code).decode()}")
    return 0


def _guess(argument):
    """The Java type of a JSON value whose type the caller did not name."""
    cdef bytes raw = bytes(argument)
    first = raw[:1]
    if first == b'"':
        return "java.lang.String"
    if first in b"tf":
        return "boolean"
    if first == b"{":
        return "java.util.Map"
    if first == b"[":
        return "java.util.List"
    if first == b"n":
        return "java.lang.Object"
    if any(mark in raw for mark in (b".", b"e", b"E")):
        return "double"
    if len(raw) > 19:
        return "java.math.BigInteger"
    return "int" if -2147483648 <= int(raw) <= 2147483647 else "long"
