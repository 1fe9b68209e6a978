"""Requests of callers made Dubbo requests, in the provider's serialization.

A caller's request is the body of a mesh frame, by one of the mesh methods ``form``, ``json``,
``hessian2`` and ``hessian2-oneway`` (``docs/formats/calls.md``). ``dubbo.upstream.egress`` calls
``write``, which appends the Dubbo frame straight to the buffer of the connection to the provider.
The invariants: what is refused raises UsageError, and the caller of ``write`` then cuts the buffer
back; how long the call may take is among its attachments, unless the caller has said so himself;
nothing in a request reaches the provider as the name of a class to make, unless it is an argument's
type; what may be called is the ``Target``'s (``dubbo.upstream.target``).
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from dragoman.dubbo.upstream.call_names cimport method_name, read_names
from dragoman.dubbo.upstream.form_call cimport read_form
from dragoman.dubbo.upstream.json_call cimport (
    ARGUMENTS_MAX, check_names, fit_argument, generic_arguments, guess_type, java_names,
    read_json_call,
)
from dragoman.dubbo.upstream.signatures cimport Signature
from dragoman.dubbo.upstream.target cimport Target, point
from dragoman.dubbo.upstream.usual_requests cimport UsualRequests
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.java.descriptor cimport descriptor_count
from dragoman.wire.dubbo.frame cimport (
    DUBBO_FASTJSON, DUBBO_FASTJSON2, DUBBO_HEADER_BYTES, DUBBO_HESSIAN2, DUBBO_REQUEST,
    DUBBO_TWO_WAY, begin_frame, end_frame,
)
from dragoman.wire.dubbo.fastjson cimport FASTJSON_OK, fastjson_problem
from dragoman.wire.dubbo.fastjson_request cimport (
    Invocation, write_json_request, write_string_request,
)
from dragoman.wire.dubbo.hessian2 cimport (
    HESSIAN_OK, hessian_problem, write_hessian_request, write_hessian_text_request,
    write_own_attachments,
)
from dragoman.wire.json.string cimport JSON_OK, JSON_REFERENCE_NAMED, JSON_TYPE_NAMED, Slice
from dragoman.wire.json.text cimport json_commands_fastjson, json_names_a_type
from dragoman.wire.json.usual_call cimport UsualCall, read_usual_call

import msgspec

from dragoman.dubbo.upstream.json_call import GENERIC_DESCRIPTOR, SET_BY_CALL
from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.java.descriptor import descriptor_of, java_name
from dragoman.wire.hessian2 import Hessian2Scanner
from dragoman.wire.hessian2 import decode as hessian2_decode
from dragoman.wire.hessian2 import encode as hessian2_encode
from dragoman.wire.dubbo.fastjson2 import request_of
from dragoman.wire.java.from_json import constants_in, fit_json, java_type

METHODS = {
    b"form": METHOD_FORM, b"json": METHOD_JSON, b"hessian2": METHOD_HESSIAN2,
    b"hessian2-oneway": METHOD_HESSIAN2_ONE_WAY,
}
# What the provider can be told to expect, by the names that options and registrations use.
# fastjson-lengths is its later wire form, with a length before each field.
SERIALIZATIONS = {
    "fastjson": DUBBO_FASTJSON, "fastjson-lengths": DUBBO_FASTJSON, "hessian2": DUBBO_HESSIAN2,
    "fastjson2": DUBBO_FASTJSON2,
}
_encode = msgspec.json.Encoder().encode


def check_serialization(str name not None):
    """Raise UsageError for one that is not spoken."""
    if name not in SERIALIZATIONS:
        raise UsageError(f"serialization {name!r}: expected one of {', '.join(SERIALIZATIONS)}")


cdef class Requests(Target):
    """Makes Dubbo requests for one provider. ``serialization`` is its name in SERIALIZATIONS; the
    other options are a ``Target``'s."""

    def __init__(
        self, str serialization not None, *, str group="", str version="", str path="",
        str token="", interfaces=None,
    ):
        check_serialization(serialization)
        Target.__init__(self, group, version, path, token, interfaces)
        self.serialization = SERIALIZATIONS[serialization]
        self._lengths = serialization == "fastjson-lengths"
        self._scratch = Buffer()
        if self.serialization == DUBBO_FASTJSON2:
            # What is to be said is settled in hessian2.
            self._inner = Requests(
                "hessian2", group=group, version=version, path=path, token=token,
                interfaces=interfaces,
            )
            self._inner._marks = True
            self._inner._usual = None  # which makes no values to look for constants in
        else:
            self._usual = UsualRequests(self.serialization == DUBBO_FASTJSON)

    cdef int write(
        self, int method, Buffer out, uint64_t id, const char* body, Py_ssize_t n,
        uint32_t timeout_ms, Asked* asked
    ) except -1:
        """Append the request that ``body`` asks for to ``out``; UsageError for what is wrong,
        NotFoundError for an interface that may not be called. ``timeout_ms`` is how long it may
        take, 0 for no word of that."""
        cdef size_t start = out.length
        memset(asked, 0, sizeof(Asked))
        if self._inner is not None:
            self._scratch.clear()
            self._inner._constants = None
            self._inner.write(method, self._scratch, id, body, n, timeout_ms, asked)
            self._fastjson2(out, id, self._inner._constants)
        elif method == METHOD_FORM:
            self._form(out, id, body, n, timeout_ms)
        elif method == METHOD_JSON:
            asked.answer = AS_JSON
            self._json(out, id, body, n, timeout_ms, asked)
        else:
            asked.answer = AS_BODY
            asked.one_way = method == METHOD_HESSIAN2_ONE_WAY
            self._hessian2(out, id, body, n, timeout_ms)
        if asked.one_way:
            (<uint8_t*>out.data)[start + 2] &= <uint8_t>(~DUBBO_TWO_WAY)
        return 0

    def make(
        self, bytes method not None, uint64_t id, bytes body not None, uint32_t timeout_ms=0
    ):
        """The whole frame for a request by a mesh method (for tests). Raises UsageError."""
        cdef Buffer out = Buffer()
        cdef Asked asked
        self.write(METHODS[method], out, id, PyBytes_AS_STRING(body), len(body), timeout_ms, &asked)
        return out.take()

    def make_asked(self, int method, bytes body not None, uint32_t timeout_ms):
        """The frame, with id 0, for a request by the mesh method of that number, and what it asked
        for as ``Asked``'s bytes. Raises UsageError."""
        cdef Buffer out = Buffer()
        cdef Asked asked
        self.write(method, out, 0, PyBytes_AS_STRING(body), len(body), timeout_ms, &asked)
        return out.take(), (<char*>&asked)[:sizeof(Asked)]

    cdef int write_echo(self, Buffer out, uint64_t id, bytes interface) except -1:
        """Append a call of ``$echo``, which every service answers from its pool."""
        cdef Invocation invocation
        if self._inner is not None:
            self._scratch.clear()
            self._inner.write_echo(self._scratch, id, interface)
            return self._fastjson2(out, id, None)
        self.invocation(&invocation, 0)
        point(&invocation.interface, interface)
        self.serve_under(&invocation)
        invocation.method.data = "$echo"
        invocation.method.length = 5
        invocation.descriptor.data = "Ljava/lang/Object;"
        invocation.descriptor.length = 18
        if self.serialization == DUBBO_HESSIAN2:
            return write_hessian_text_request(out, id, &invocation, b"OK", 2)
        return write_string_request(out, id, &invocation, b"OK", 2)

    cdef int _fastjson2(self, Buffer out, uint64_t id, object constants) except -1:
        """The request in hessian2 that ``_scratch`` holds, with ``request_of``'s ``constants``."""
        cdef Py_ssize_t start
        cdef bytes body
        try:
            body = request_of(
                self._scratch.data[DUBBO_HEADER_BYTES:<Py_ssize_t>self._scratch.length],
                constants,
            )
        except ProtocolError as error:
            raise UsageError(f"a call that cannot be read: {error}") from None
        start = begin_frame(out, DUBBO_REQUEST | DUBBO_TWO_WAY | DUBBO_FASTJSON2, 0, id)
        out.append(PyBytes_AS_STRING(body), len(body))
        end_frame(out, start)
        return 0

    cdef int _form(
        self, Buffer out, uint64_t id, const char* body, Py_ssize_t n, uint32_t timeout_ms
    ) except -1:
        """The contest's form, in whatever order its fields come."""
        cdef Slice values[4]
        cdef Invocation invocation
        cdef int code
        read_form(body, n, self._scratch, values)
        self.invocation(&invocation, timeout_ms)
        invocation.interface = values[0]
        self.serve_under(&invocation)
        invocation.method = values[1]
        invocation.descriptor = values[2]
        self.check_interface(&values[0])
        if not (
            values[2].length == 18 and memcmp(values[2].data, b"Ljava/lang/String;", 18) == 0
        ):
            return self._form_json(out, id, &invocation, &values[3])
        if values[3].data == NULL:
            raise UsageError("the form field parameter is missing")
        if self.serialization == DUBBO_HESSIAN2:
            code = write_hessian_text_request(
                out, id, &invocation, values[3].data, values[3].length
            )
            if code != HESSIAN_OK:
                raise UsageError(f"the form cannot be sent: {hessian_problem(code).decode()}")
            return 0
        code = write_string_request(out, id, &invocation, values[3].data, values[3].length)
        if code != FASTJSON_OK:
            raise UsageError(f"the form cannot be sent: {fastjson_problem(code).decode()}")
        return 0

    cdef int _form_json(
        self, Buffer out, uint64_t id, Invocation* invocation, const Slice* parameter
    ) except -1:
        """A form whose parameter is of any other type: it is the argument as JSON."""
        cdef Slice argument
        cdef int code
        cdef int parameters = descriptor_count(
            invocation.descriptor.data, invocation.descriptor.length
        )
        if parameters < 0:
            raise UsageError(
                "the form field parameterTypesString is no JVM parameter descriptor"
            )
        if parameters > 1:
            raise UsageError("a form carries one parameter: use the JSON contract for more")
        if parameters == 1:
            if parameter.data == NULL:
                raise UsageError("the form field parameter is missing")
            self._check("the form field parameter", parameter.data, parameter.length)
            argument = parameter[0]
        if self.serialization == DUBBO_HESSIAN2:
            return self._form_hessian2(out, id, invocation, parameter, parameters)
        code = write_json_request(out, id, invocation, &argument, parameters)
        if code != FASTJSON_OK:
            raise UsageError(f"the form cannot be sent: {fastjson_problem(code).decode()}")
        return 0

    cdef int _form_hessian2(
        self, Buffer out, uint64_t id, Invocation* invocation, const Slice* parameter, int count
    ) except -1:
        cdef bytes arguments = b""
        cdef int code
        cdef bytes descriptor
        if count:
            descriptor = invocation.descriptor.data[:invocation.descriptor.length]
            name = descriptor.decode("utf-8", "replace")
            try:
                value = fit_json(
                    parameter.data[:parameter.length], java_type(java_name(name))
                )
                arguments = hessian2_encode(value, types=name, tree=True)
                if self._marks:
                    self._constants = constants_in([value])
            except UsageError as error:
                raise UsageError(f"the form field parameter: {error}") from None
        code = write_hessian_request(
            out, id, invocation, PyBytes_AS_STRING(arguments), len(arguments)
        )
        if code != HESSIAN_OK:
            raise UsageError(f"the form cannot be sent: {hessian_problem(code).decode()}")
        return 0

    cdef int _json(
        self, Buffer out, uint64_t id, const char* body, Py_ssize_t n, uint32_t timeout_ms,
        Asked* asked
    ) except -1:
        """``interface NUL method NUL group NUL version NUL`` and the JSON object of the call."""
        cdef Slice parts[4]
        cdef Invocation invocation
        cdef const char* rest = body
        cdef Py_ssize_t left = read_names(&rest, n, parts, 4)
        cdef UsualCall usual
        cdef Signature signature
        self.check_interface(&parts[0])
        if self._usual is not None and read_usual_call(rest, left, &usual):
            signature = self._usual.write(self, out, id, parts, &usual, timeout_ms)
            if signature is not None:
                asked.one_way = usual.one_way
                asked.envelope = usual.envelope
                asked.class_names = usual.class_names
                # In fastjson beans are maps, and go as they are.
                asked.generic = signature.generic and self.serialization == DUBBO_HESSIAN2
                return 0
        call = read_json_call(rest[:left])
        asked.one_way = call.oneway
        asked.envelope = call.envelope
        asked.class_names = call.class_names
        if "timeout" in call.attachments or "_TO" in call.attachments:
            timeout_ms = 0
        self.invocation(&invocation, timeout_ms)
        invocation.interface = parts[0]
        invocation.method = parts[1]
        self.serve_under(&invocation)
        if call.envelope:
            # To an older protocol a provider gives no attachments back.
            invocation.version.data = "2.0.2"
            invocation.version.length = 5
        if self.serialization == DUBBO_HESSIAN2:
            return self._json_hessian2(out, id, &invocation, call, asked)
        return self._json_fastjson(out, id, &invocation, call, asked)

    cdef int _json_hessian2(
        self, Buffer out, uint64_t id, Invocation* invocation, object call, Asked* asked
    ) except -1:
        """Typed values. Beans whose classes only the provider knows go by generic invocation."""
        cdef bytes descriptor, raw, arguments, attachments
        cdef int code
        cdef list raws = [bytes(argument) for argument in call.args]
        types = call.types
        extra = call.attachments
        generic = call.generic
        for i, raw in enumerate(raws):
            self._check(f"args[{i}]", PyBytes_AS_STRING(raw), len(raw))
        if types is None and not generic:
            types = [guess_type(raw) for raw in raws]
        kinds = None if types is None else [java_type(name) for name in types]
        if generic is None:
            generic = not all([kind.is_jdk for kind in kinds])
        asked.generic = bool(generic)
        asked.gson = generic == "gson"
        if generic:
            extra = {**extra, "generic": "gson" if asked.gson else "true"}
            values = generic_arguments(
                method_name(invocation), types, kinds, raws, asked.gson, call.fields
            )
            invocation.method.data = "$invoke"
            invocation.method.length = 7
            descriptor = GENERIC_DESCRIPTOR
        else:
            values = [
                fit_argument(i, raw, kind, True, call.fields)
                for i, (raw, kind) in enumerate(zip(raws, kinds))
            ]
            descriptor = descriptor_of(types).encode()
        point(&invocation.descriptor, descriptor)
        arguments = hessian2_encode(*values, types=descriptor.decode(), tree=True)
        if self._marks:
            self._constants = constants_in(values)
        # The one map, less its first and last byte, which stand around all attachments.
        attachments = hessian2_encode(extra) if extra else b"HZ"
        invocation.attachments.data = PyBytes_AS_STRING(attachments) + 1
        invocation.attachments.length = len(attachments) - 2
        code = write_hessian_request(
            out, id, invocation, PyBytes_AS_STRING(arguments), len(arguments)
        )
        if code != HESSIAN_OK:
            raise UsageError(f"the call cannot be sent: {hessian_problem(code).decode()}")
        return 0

    cdef int _json_fastjson(
        self, Buffer out, uint64_t id, Invocation* invocation, object call, Asked* asked
    ) except -1:
        cdef Slice arguments[ARGUMENTS_MAX]
        cdef bytes raw, descriptor, attachments, method
        cdef list kept = []
        cdef Py_ssize_t i, count = len(call.args)
        cdef int code
        for i in range(count):
            raw = bytes(call.args[i])
            kept.append(raw)
            self._check(f"args[{i}]", PyBytes_AS_STRING(raw), len(raw))
        types = call.types
        extra = call.attachments
        if call.generic:
            asked.generic = True
            asked.gson = call.generic == "gson"
            extra = {**extra, "generic": "gson" if asked.gson else "true"}
            named = method_name(invocation)
            if asked.gson:
                kept = [_encode(raw.decode()) for raw in kept]
            kept = [
                _encode(named),
                _encode(types if types is None else java_names(types)),
                b"[%b]" % b",".join(kept),
            ]
            method = b"$invoke"
            point(&invocation.method, method)
            descriptor = GENERIC_DESCRIPTOR
        else:
            if types is None:
                types = [guess_type(argument) for argument in kept]
            descriptor = descriptor_of(types).encode()
        point(&invocation.descriptor, descriptor)
        for i in range(len(kept)):
            point(&arguments[i], <bytes>kept[i])
        check_names(extra)
        attachments = _encode(extra)
        attachments = attachments[1:len(attachments) - 1]
        point(&invocation.attachments, attachments)
        code = write_json_request(out, id, invocation, arguments, len(kept))
        if code != FASTJSON_OK:
            raise UsageError(f"the call cannot be sent: {fastjson_problem(code).decode()}")
        return 0

    cdef int _check(self, str what, const char* json, Py_ssize_t n) except -1:
        """Refuse what is not one JSON value, and what would have the provider make an object of a
        class that the caller names: fastjson obeys ``@type``, and a caller over HTTP may be
        anybody. Where fastjson is spoken, also what it would take for a reference."""
        cdef int code
        if self.serialization == DUBBO_FASTJSON:
            code = json_commands_fastjson(json, n)
        else:
            code = json_names_a_type(json, n)
        if code == JSON_TYPE_NAMED:
            raise UsageError(f"{what}: @type is not passed on; name the type in types")
        if code == JSON_REFERENCE_NAMED:
            raise UsageError(f"{what}: $ref is not passed on; fastjson takes it for a reference")
        if code != JSON_OK:
            raise UsageError(f"{what}: {fastjson_problem(code).decode()}")
        return 0

    cdef int _hessian2(
        self, Buffer out, uint64_t id, const char* body, Py_ssize_t n, uint32_t timeout_ms
    ) except -1:
        """Five names, each with a NUL; the u32 length of the arguments; these; attachments."""
        cdef Slice parts[5]
        cdef Invocation invocation
        cdef const char* rest = body
        cdef Py_ssize_t left = read_names(&rest, n, parts, 5)
        cdef const uint8_t* p = <const uint8_t*>rest
        cdef uint32_t length
        cdef int code
        cdef bint timed = False
        self.check_interface(&parts[0])
        if left < 4:
            raise UsageError("a hessian2 call without the length of its arguments")
        length = <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
        rest += 4
        left -= 4
        if <Py_ssize_t>length > left:
            raise UsageError(f"a hessian2 call of {length} bytes of arguments, {left} of them came")
        if descriptor_count(parts[4].data, parts[4].length) < 0:
            raise UsageError("a hessian2 call without a JVM parameter descriptor")
        self.invocation(&invocation, timeout_ms)
        invocation.version.data = "2.0.2"
        invocation.version.length = 5
        invocation.interface = parts[0]
        invocation.method = parts[1]
        invocation.descriptor = parts[4]
        self.serve_under(&invocation)
        if self.serialization != DUBBO_HESSIAN2:
            return self._hessian2_as_fastjson(
                out, id, &invocation, rest[:length], rest[length:left]
            )
        self._scratch.clear()
        code = write_own_attachments(self._scratch, rest + length, left - length, &timed)
        if code == HESSIAN_OK:
            if timed:
                invocation.timeout_ms = 0
            invocation.attachments.data = self._scratch.data
            invocation.attachments.length = self._scratch.length
            code = write_hessian_request(out, id, &invocation, rest, length)
        if code != HESSIAN_OK:
            raise UsageError(f"a hessian2 call: {hessian_problem(code).decode()}")
        return 0

    cdef int _hessian2_as_fastjson(
        self, Buffer out, uint64_t id, Invocation* invocation, bytes arguments, bytes attachments
    ) except -1:
        cdef Slice slices[ARGUMENTS_MAX]
        cdef bytes argument, members
        cdef list kept = []
        cdef int code
        cdef int i
        cdef int count = descriptor_count(invocation.descriptor.data, invocation.descriptor.length)
        try:
            scanner = Hessian2Scanner(arguments)
            for i in range(count):
                argument = scanner.read_json()
                self._check(f"argument {i + 1}", PyBytes_AS_STRING(argument), len(argument))
                kept.append(argument)
            if not scanner.at_end:
                raise UsageError(f"a hessian2 call of more than {count} arguments")
            extra = hessian2_decode(attachments) if attachments else {}
        except ProtocolError as error:
            raise UsageError(f"a hessian2 call: {error}") from None
        if not isinstance(extra, dict | None) or not all(
            [isinstance(name, str) and isinstance(value, str | None)
             for name, value in (extra or {}).items()]
        ):
            raise UsageError("a hessian2 call: attachments are not one hessian2 map of strings")
        if extra and ("timeout" in extra or "_TO" in extra):
            invocation.timeout_ms = 0
        for i in range(count):
            point(&slices[i], <bytes>kept[i])
        check_names(extra or {})
        try:
            members = _encode({
                name: value for name, value in (extra or {}).items() if name not in SET_BY_CALL
            })
        except UnicodeEncodeError:
            raise UsageError("a hessian2 call: an attachment holds half a character") from None
        members = members[1:len(members) - 1]
        point(&invocation.attachments, members)
        code = write_json_request(out, id, invocation, slices, count)
        if code != FASTJSON_OK:
            raise UsageError(f"a hessian2 call: {fastjson_problem(code).decode()}")
        return 0
