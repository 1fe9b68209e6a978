"""Requests of callers made Dubbo requests, in the provider's serialization.

A caller's request is the body of a mesh frame, by one of the mesh methods ``form``, ``json``,
``hessian2`` and ``hessian2-oneway`` (``docs/formats/calls.md``). ``dubbo.upstream.egress`` calls
``write``, which appends the Dubbo frame straight to the buffer of the connection to the provider.
The invariants: what is refused raises UsageError, and the caller of ``write`` then cuts the buffer
back; how long the call may take is among its attachments, unless the caller has said so himself;
nothing in a request reaches the provider as the name of a class to make, unless it is an argument's
type; and where ``interfaces`` are given, no call leaves for another one, under whatever mesh
method, generic or not (group and version are always those given here).
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memset

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.java.descriptor cimport descriptor_count
from dragoman.wire.dubbo.frame cimport (
    DUBBO_FASTJSON, DUBBO_FASTJSON2, DUBBO_HEADER_BYTES, DUBBO_HESSIAN2, DUBBO_REQUEST,
    DUBBO_TWO_WAY, begin_frame, end_frame,
)
from dragoman.wire.dubbo.fastjson cimport (
    FASTJSON_OK, Invocation, fastjson_problem, write_json_request, write_string_request,
)
from dragoman.wire.http1.form cimport (
    FORM_REPEATED, FORM_TOO_MANY, FormField, decode, read_known_fields,
)
from dragoman.wire.dubbo.hessian2 cimport (
    HESSIAN_OK, hessian_problem, write_hessian_request, write_hessian_text_request,
    write_own_attachments,
)
from dragoman.wire.json.string cimport (
    JSON_OK, JSON_REFERENCE_NAMED, JSON_TYPE_NAMED, Slice,
)
from dragoman.wire.json.text cimport json_commands_fastjson, json_names_a_type

from typing import Literal

import msgspec

from dragoman.errors import NotFoundError, ProtocolError, UsageError
from dragoman.wire.java.descriptor import descriptor_of, java_name
from dragoman.wire.hessian2 import Hessian2Scanner
from dragoman.wire.hessian2 import decode as hessian2_decode
from dragoman.wire.hessian2 import encode as hessian2_encode
from dragoman.wire.dubbo.fastjson2 import request_of
from dragoman.wire.java.from_json import OBJECT, constants_in, fit_json, java_type
from dragoman.wire.misfit import UNREADABLE, json_misfit

cdef enum:
    ARGUMENTS_MAX = 255
    FORM_FIELDS_MAX = 64
    INTERFACE_SHOWN_MAX = 200

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

# Attachments that a call sets itself: a caller who set them would reach what it did not ask for.
SET_BY_CALL = frozenset(("path", "interface", "group", "version"))
OWN_ATTACHMENTS = SET_BY_CALL | {"generic"}
# Names of members that fastjson obeys: make an object of this class, put another value here.
COMMANDS = ("@type", "$ref")
GENERIC_DESCRIPTOR = b"Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"

cdef const char* FIELD_NAMES[4]
FIELD_NAMES[:] = ["interface", "method", "parameterTypesString", "parameter"]
cdef Py_ssize_t FIELD_LENGTHS[4]
FIELD_LENGTHS[:] = [9, 6, 20, 9]


class ForwardedCall(msgspec.Struct, rename={"class_names": "class"}):
    """The part of a JSON call that the provider's side reads."""

    types: list[str] | None = None
    args: list[msgspec.Raw] = []
    # Added by a consumer's agent: class -> field -> type, where only the type explains the JSON.
    fields: dict[str, dict[str, str]] = {}
    attachments: dict[str, str] = {}
    generic: bool | Literal["gson"] | None = None
    class_names: bool = False
    envelope: bool = False
    oneway: bool = False


_json_call = msgspec.json.Decoder(ForwardedCall)
_encode = msgspec.json.Encoder().encode


def check_serialization(str name not None):
    """Raise UsageError for one that is not spoken."""
    if name not in SERIALIZATIONS:
        raise UsageError(f"serialization {name!r}: expected one of {', '.join(SERIALIZATIONS)}")


cdef class Requests:
    """Makes Dubbo requests for one provider. ``serialization`` is its name in SERIALIZATIONS.

    ``interfaces`` are those that may be called; None: any. ``path`` is what it serves the interface
    under, if that is not the interface's name; one that ends with ``/`` stands before the name.
    ``token`` is what its calls must show.
    """

    def __init__(
        self, str serialization not None, *, str group="", str version="", str path="",
        str token="", interfaces=None,
    ):
        check_serialization(serialization)
        self.serialization = SERIALIZATIONS[serialization]
        self._lengths = serialization == "fastjson-lengths"
        self._group = group.encode() if group else None
        self._version = version.encode() if version else None
        self._path = path.encode() if path else None
        self._before = path.endswith("/")
        self._whole_path = Buffer()
        self._token = token.encode() if token else None
        self._scratch = Buffer()
        self._interfaces = None if interfaces is None else [name.encode() for name in interfaces]
        if self.serialization == DUBBO_FASTJSON2:
            # What is to be said is settled in hessian2.
            self._inner = Requests(
                "hessian2", group=group, version=version, path=path, token=token,
                interfaces=interfaces,
            )
            self._inner._marks = True

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
        self._invocation(&invocation, 0)
        point(&invocation.interface, interface)
        self._serve_under(&invocation)
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

    cdef void _invocation(self, Invocation* to, uint32_t timeout_ms) noexcept:
        memset(to, 0, sizeof(Invocation))
        point(&to.group, self._group)
        point(&to.service_version, self._version)
        point(&to.token, self._token)
        to.lengths = self._lengths
        to.timeout_ms = timeout_ms

    cdef int _serve_under(self, Invocation* call) except -1:
        """Name the path of the call's interface, if it is not the interface's own name."""
        if self._path is None:
            return 0
        if not self._before:
            point(&call.path, self._path)
            return 0
        self._whole_path.clear()
        self._whole_path.append(PyBytes_AS_STRING(self._path), len(self._path))
        self._whole_path.append(call.interface.data, call.interface.length)
        call.path.data = self._whole_path.data
        call.path.length = self._whole_path.length
        return 0

    cdef int _check_interface(self, const Slice* name) except -1:
        """Refuse what is not among the interfaces that may be called."""
        cdef Py_ssize_t i = self._asked_last, tried
        cdef bytes interface
        if self._interfaces is None:
            return 0
        for tried in range(len(self._interfaces)):
            interface = <bytes>self._interfaces[i]
            if len(interface) == name.length and memcmp(
                PyBytes_AS_STRING(interface), name.data, name.length
            ) == 0:
                self._asked_last = i
                return 0
            i = i + 1 if i + 1 < len(self._interfaces) else 0
        asked = name.data[:min(name.length, INTERFACE_SHOWN_MAX)].decode("utf-8", "replace")
        raise NotFoundError(f"this provider's agent serves no interface {asked!r} (--interface)")

    cdef int _form(
        self, Buffer out, uint64_t id, const char* body, Py_ssize_t n, uint32_t timeout_ms
    ) except -1:
        """The contest's form, in whatever order its fields come."""
        cdef FormField fields[4]
        cdef Slice values[4]
        cdef Invocation invocation
        cdef Py_ssize_t decoded
        cdef size_t room = 0
        cdef char* at
        cdef int found, i
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
        self._invocation(&invocation, timeout_ms)
        invocation.interface = values[0]
        self._serve_under(&invocation)
        invocation.method = values[1]
        invocation.descriptor = values[2]
        self._check_interface(&values[0])
        if not (
            values[2].length == 18 and memcmp(values[2].data, b"Ljava/lang/String;", 18) == 0
        ):
            return self._form_json(out, id, &invocation, &values[3])
        if values[3].data == NULL:
            raise UsageError("the form field parameter is missing")
        if self.serialization == DUBBO_HESSIAN2:
            found = write_hessian_text_request(
                out, id, &invocation, values[3].data, values[3].length
            )
            if found != HESSIAN_OK:
                raise UsageError(f"the form cannot be sent: {hessian_problem(found).decode()}")
            return 0
        found = write_string_request(out, id, &invocation, values[3].data, values[3].length)
        if found != FASTJSON_OK:
            raise UsageError(f"the form cannot be sent: {fastjson_problem(found).decode()}")
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
        self._check_interface(&parts[0])
        try:
            call = _json_call.decode(rest[:left])
        except UNREADABLE:
            raise UsageError(f"body: {json_misfit(rest[:left], ForwardedCall)}") from None
        if len(call.args) > ARGUMENTS_MAX:
            raise UsageError(f"args: at most {ARGUMENTS_MAX} arguments, {len(call.args)} given")
        if call.types is not None and len(call.types) != len(call.args):
            raise UsageError(f"{len(call.types)} types for {len(call.args)} args")
        for name in call.attachments:
            if name in OWN_ATTACHMENTS:
                raise UsageError(f"attachments: {name} is set by the call itself")
        asked.one_way = call.oneway
        asked.envelope = call.envelope
        asked.class_names = call.class_names
        if "timeout" in call.attachments or "_TO" in call.attachments:
            timeout_ms = 0
        self._invocation(&invocation, timeout_ms)
        invocation.interface = parts[0]
        invocation.method = parts[1]
        self._serve_under(&invocation)
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
            types = [_guess(raw) for raw in raws]
        kinds = None if types is None else [java_type(name) for name in types]
        if generic is None:
            generic = not all([kind.is_jdk for kind in kinds])
        asked.generic = bool(generic)
        asked.gson = generic == "gson"
        if generic:
            extra = {**extra, "generic": "gson" if asked.gson else "true"}
            values = _generic(
                method_name(invocation), types, kinds, raws, asked.gson, call.fields
            )
            invocation.method.data = "$invoke"
            invocation.method.length = 7
            descriptor = GENERIC_DESCRIPTOR
        else:
            values = [
                _argument(i, raw, kind, True, call.fields)
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
                _encode(types if types is None else _java_names(types)),
                b"[%b]" % b",".join(kept),
            ]
            method = b"$invoke"
            point(&invocation.method, method)
            descriptor = GENERIC_DESCRIPTOR
        else:
            if types is None:
                types = [_guess(argument) for argument in kept]
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
        self._check_interface(&parts[0])
        if left < 4:
            raise UsageError("a hessian2 call without the length of its arguments")
        length = <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
        rest += 4
        left -= 4
        if <Py_ssize_t>length > left:
            raise UsageError(f"a hessian2 call of {length} bytes of arguments, {left} of them came")
        if descriptor_count(parts[4].data, parts[4].length) < 0:
            raise UsageError("a hessian2 call without a JVM parameter descriptor")
        self._invocation(&invocation, timeout_ms)
        invocation.version.data = "2.0.2"
        invocation.version.length = 5
        invocation.interface = parts[0]
        invocation.method = parts[1]
        invocation.descriptor = parts[4]
        self._serve_under(&invocation)
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


cdef int check_names(attachments) except -1:
    """Refuse attachments whose names fastjson would obey: they are text in a body like any other
    member."""
    for name in COMMANDS:
        if name in attachments:
            raise UsageError(f"attachments: {name} is not passed on; fastjson would obey it")
    return 0


cdef void point(Slice* slice, bytes text) noexcept:
    """Let a Slice borrow from ``text``; None is absent."""
    slice.data = NULL if text is None else PyBytes_AS_STRING(text)
    slice.length = 0 if text is None else len(text)


cdef str method_name(const Invocation* invocation):
    """The method's name as text."""
    try:
        return invocation.method.data[:invocation.method.length].decode()
    except UnicodeDecodeError:
        raise UsageError("the method's name is not UTF-8") from None


cdef Py_ssize_t read_names(const char** at, Py_ssize_t n, Slice* parts, int count) except -1:
    """Take ``count`` texts with a NUL after each; how much is left after them."""
    cdef const char* end = at[0] + n
    cdef const char* nul
    cdef int i
    for i in range(count):
        nul = <const char*>memchr(at[0], 0, end - at[0])
        if nul == NULL:
            raise UsageError(f"a call without its {count} names")
        parts[i].data = at[0]
        parts[i].length = nul - at[0]
        at[0] = nul + 1
    return end - at[0]


def _form_problem(int code):
    if code == FORM_REPEATED:
        return "a form field is repeated"
    if code == FORM_TOO_MANY:
        return f"a form of more than {FORM_FIELDS_MAX} fields"
    return "the form is malformed"


def _argument(int i, bytes raw, kind, bint beans, dict fields):
    """``args[i]`` as a Java value."""
    try:
        return fit_json(raw, kind, beans=beans, fields=fields)
    except UsageError as error:
        raise UsageError(f"args[{i}]: {error}") from None


def _generic(str method, types, kinds, list raws, bint gson, dict fields):
    """The arguments of ``$invoke``: the method's name, the types' names, the values."""
    if gson:
        values = [raw.decode() for raw in raws]
    else:
        values = [
            _argument(i, raw, OBJECT if kinds is None else kinds[i], False, fields)
            for i, raw in enumerate(raws)
        ]
    return [method, None if types is None else _java_names(types), values]


def _java_names(types):
    """Types' names as Java's source has them, for the array of names of ``$invoke``."""
    return [java_name(descriptor_of([each])) for each in types]


def _guess(bytes raw not None):
    """The Java type of a JSON value whose type the caller did not name."""
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
