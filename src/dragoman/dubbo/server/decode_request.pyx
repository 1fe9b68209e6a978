"""A request as its provider reads it, and the body of its reply, by serialization.

``dubbo.server.dispatch`` builds its calls on this. The invariants: a malformed body raises before
anything of it is acted upon; attachments go back only to who reads them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t

from dragoman.dubbo.upstream.costs cimport SMALL_BYTES, heavier
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.java.descriptor cimport descriptor_count
from dragoman.wire.dubbo.frame cimport DUBBO_FASTJSON, DUBBO_HESSIAN2
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer

from dragoman.dubbo.server.results import throwable_of
from dragoman.errors import LimitError, UsageError
from dragoman.wire.java.descriptor import count_parameters
from dragoman.wire.hessian2 import CONTAINERS_MAX, DEPTH_MAX
from dragoman.wire.dubbo.invocation import decode_request, encode_reply, parameters

# By descriptor: which of the arguments may hold values whose types nobody declared.
cdef dict _keeps = {}
cdef Py_ssize_t KEEPS_MAX = 1024
# Parameters of these are what their declarations say.
SIMPLE = frozenset((
    "Ljava/lang/String;", "Ljava/lang/Boolean;", "Ljava/lang/Byte;", "Ljava/lang/Short;",
    "Ljava/lang/Integer;", "Ljava/lang/Long;", "Ljava/lang/Float;", "Ljava/lang/Double;",
    "Ljava/lang/Character;", "Ljava/math/BigDecimal;", "Ljava/math/BigInteger;",
))

# A day: who says more means "for ever".
cdef int64_t TIMEOUT_MS_MAX = 86_400_000
cdef int DEPTH = DEPTH_MAX
cdef Py_ssize_t CONTAINERS = CONTAINERS_MAX


cdef class ServedRequest(Timed):
    """What a request says. Its time in the wheel is its call's."""

    cdef int decode(
        self, Hessian2Reader reader, const char* body, Py_ssize_t n, Py_ssize_t values_max
    ) except -1:
        """Read a request's body; raises ProtocolError, LimitError for more than ``values_max``."""
        cdef bytes descriptor
        cdef int count, i
        if self.serialization != DUBBO_HESSIAN2:
            if self.serialization == DUBBO_FASTJSON and n > SMALL_BYTES \
                    and heavier(body, n, values_max):
                raise LimitError("fastjson: more values than are taken in one call")
            request = decode_request(body[:n], self.serialization, weight_max=values_max)
            self.protocol_version = request.protocol
            self.path = request.path
            self.version = request.service_version
            self.method = request.method
            self.descriptor = request.descriptor
            self.arguments = request.arguments
            self.attachments = request.attachments
            return 0
        reader.start(None, <const uint8_t*>body, n, False, DEPTH, CONTAINERS)
        reader.weight_left = values_max
        self.protocol_version = reader.text()
        self.path = reader.text()
        self.version = reader.text()
        self.method = reader.text()
        self.descriptor = reader.text()
        if self.path is None or self.method is None or self.descriptor is None:
            raise UsageError("no path, method or descriptor")
        descriptor = self.descriptor.encode()
        count = descriptor_count(PyBytes_AS_STRING(descriptor), PyBytes_GET_SIZE(descriptor))
        if count < 0:
            count_parameters(descriptor)
        # What is echoed is to be what it was.
        reader.exact = self.method == "$echo"
        kept = _keeps.get(self.descriptor)
        if kept is None:
            kept = _kept_types(self.descriptor)
        self.arguments = []
        for i in range(count):
            reader.typed = reader.exact or (<tuple>kept)[i]
            self.arguments.append(reader.value())
        reader.exact = reader.typed = False
        self.attachments = reader.attachments() if reader.at < reader.n else {}
        return 0

    cdef int64_t timeout_ms(self) except -2:
        """What the caller says that the call may take, 0 for nothing, -1 for a time that has
        passed: of the attachment that counts down (``_TO``), since ``timeout`` says "the default"
        so.
        """
        cdef int64_t least = 0, given
        cdef str name
        for name in ("_TO", "timeout"):
            said = whole_number(self.attachments.get(name))
            if said is None:
                continue
            given = min(said, TIMEOUT_MS_MAX)
            if given <= 0:
                if name == "_TO":
                    return -1
            elif least == 0 or given < least:
                least = given
        return least

    cdef str text_of(self, str name):
        """An attachment that is text; an empty one for what is not."""
        value = self.attachments.get(name)
        return value if isinstance(value, str) else ""

    cdef int write_value(
        self, Hessian2Writer writer, Buffer out, value, str descriptor
    ) except -1:
        """The body of a reply with a value, or null."""
        cdef bint more = self._has_attachments()
        if self.serialization != DUBBO_HESSIAN2:
            out.write(encode_reply(
                value, attachments=self.reply_attachments if more else None,
                serialization=self.serialization, type=descriptor,
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
            writer.text_map(self.reply_attachments)
        return 0

    cdef int write_exception(self, Hessian2Writer writer, Buffer out, error) except -1:
        """The body of a reply with an exception."""
        cdef bint more = self._has_attachments()
        thrown = throwable_of(error, self.generic is not None)
        if self.serialization != DUBBO_HESSIAN2:
            out.write(encode_reply(
                exception=thrown, attachments=self.reply_attachments if more else None,
                serialization=self.serialization,
            ))
            return 0
        writer.start(out, DEPTH)
        writer.int32(3 if more else 0)
        writer.value(thrown)
        if more:
            writer.text_map(self.reply_attachments)
        return 0

    cdef bint _has_attachments(self):
        """Whether the reply is to carry attachments."""
        return bool(self.reply_attachments) and _takes_attachments(self.protocol_version)


cdef object whole_number(value):
    """The whole number that an attachment is, in whatever type it came; None for anything else."""
    if type(value) is str:
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            return None
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not -1e18 < value < 1e18:
        return None
    return int(value)


cdef tuple _kept_types(str descriptor):
    """Which parameters keep Java's types: a ``Long`` or a ``TypedList`` for what an Object, a
    collection or a bean may hold, so that what a function hands back is what it was given.
    """
    kept = tuple([
        not (len(kind.lstrip("[")) == 1 or kind.lstrip("[") in SIMPLE)
        for kind in parameters(descriptor)
    ])
    if len(_keeps) >= KEEPS_MAX:
        _keeps.clear()
    _keeps[descriptor] = kept
    return kept


cdef bint _takes_attachments(str version):
    """Whether who claims this version of the protocol reads attachments in replies: 2.0.2 to
    2.0.99.
    """
    if version is None or version[:4] != "2.0.":
        return False
    patch = version[4:]
    return patch.isascii() and patch.isdigit() and 2 <= int(patch) <= 99
