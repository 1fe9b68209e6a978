"""What the types of a call come to: descriptor, generic or not, how each argument is read.

``dubbo.upstream.usual_requests`` asks it for each call; a method's types are the same in all of its
calls, so what they come to is remembered by the JSON that names them. The invariants: what is
remembered depends on nothing but those bytes, and callers, who choose them, cannot make it grow:
neither the entries nor the bytes of their keys are more than KNOWN_MAX and KNOWN_BYTES_MAX, to
which what is made of them is in proportion, then it begins anew; a longer key than KEY_BYTES_MAX,
and types that are none, are not remembered.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memchr

from dragoman.dubbo.upstream.json_call cimport java_names
from dragoman.wire.java.descriptor cimport descriptor_from_types, split_descriptor
from dragoman.wire.json.string cimport Slice
from dragoman.wire.json.usual_call cimport USUAL_ARGUMENTS_MAX, UsualCall

import msgspec

from dragoman.errors import UsageError
from dragoman.wire.java.from_json import is_natural, java_type
from dragoman.wire.misfit import UNREADABLE

cdef enum:
    KNOWN_MAX = 1024
    KNOWN_BYTES_MAX = 262144
    KEY_BYTES_MAX = 4096
    DIGITS_MAX = 18   # that a long always holds

cdef dict FORMS = {
    "java.lang.String": OF_TEXT, "int": OF_INT, "java.lang.Integer": OF_INT, "long": OF_LONG,
    "java.lang.Long": OF_LONG, "double": OF_DOUBLE, "java.lang.Double": OF_DOUBLE,
    "boolean": OF_BOOLEAN, "java.lang.Boolean": OF_BOOLEAN,
}
# The types that ``json_call.guess_type`` gives, by the letters of ``guessed``.
cdef dict GUESSED = {
    "S": "java.lang.String", "Z": "boolean", "M": "java.util.Map", "L": "java.util.List",
    "N": "java.lang.Object", "D": "double", "B": "java.math.BigInteger", "I": "int", "J": "long",
}

cdef tuple WRONG = (UsageError, *UNREADABLE)

cdef dict known = {}   # JSON of types and fields, or letters of guessed types -> Signature
cdef Py_ssize_t known_bytes = 0

_types = msgspec.json.Decoder(list[str]).decode
_fields = msgspec.json.Decoder(dict[str, dict[str, str]]).decode


cdef class Signature:
    """Of one list of types, with the types of beans' fields that a call gives."""

    def __init__(self, list types, dict fields):
        """UsageError for types that are none."""
        self.kinds = [java_type(name) for name in types]
        self.generic = not all([kind.is_jdk for kind in self.kinds])
        self.names = java_names(types)
        text = descriptor_from_types(types)
        self.descriptors = split_descriptor(text)
        self.descriptor = text.encode()
        self.forms = bytes([
            OF_ANY if kind.arguments or kind.dimensions else FORMS.get(kind.name, OF_ANY)
            for kind in self.kinds
        ])
        self.natural = bytes([
            not fields and is_natural(kind, beans=not self.generic) for kind in self.kinds
        ])
        self.fields = fields


cdef Signature signature_of(const UsualCall* call):
    """The signature of a call's arguments; None where that takes a closer look."""
    cdef char letters[USUAL_ARGUMENTS_MAX]
    cdef bytes key
    cdef int i
    if call.types.data == NULL:
        if call.fields.data != NULL:
            return None
        for i in range(call.count):
            letters[i] = guessed(&call.args[i])
        key = letters[:call.count]
    else:
        if call.named != call.count:
            return None
        key = PyBytes_FromStringAndSize(call.types.data, call.types.length)
        if call.fields.data != NULL:
            # Where the types end can be seen: no two pairs have the same key.
            key += call.fields.data[:call.fields.length]
    found = known.get(key)
    if found is not None:
        return <Signature>found
    return remembered(key, made(call, key))


cdef Signature made(const UsualCall* call, bytes key):
    """A new signature, None where something is wrong with it."""
    try:
        if call.types.data == NULL:
            return Signature([GUESSED[letter] for letter in key.decode()], {})
        return Signature(
            _types(call.types.data[:call.types.length]),
            _fields(call.fields.data[:call.fields.length]) if call.fields.data != NULL else {},
        )
    except WRONG:
        return None


cdef Signature remembered(bytes key, Signature signature):
    global known_bytes
    if signature is None or len(key) > KEY_BYTES_MAX:
        return signature
    if len(known) == KNOWN_MAX or known_bytes + len(key) > KNOWN_BYTES_MAX:
        known.clear()
        known_bytes = 0
    known[key] = signature
    known_bytes += len(key)
    return signature


def remembered_signatures():
    """How many are remembered, and the bytes of their keys (for tests)."""
    return len(known), known_bytes


cdef char guessed(const Slice* json) noexcept nogil:
    """``json_call.guess_type`` as a letter."""
    cdef const char* p = json.data
    cdef Py_ssize_t n = json.length
    cdef long long value
    if p[0] == c'"':
        return c'S'
    if p[0] == c't' or p[0] == c'f':
        return c'Z'
    if p[0] == c'{':
        return c'M'
    if p[0] == c'[':
        return c'L'
    if p[0] == c'n':
        return c'N'
    if memchr(p, c'.', n) != NULL or memchr(p, c'e', n) != NULL or memchr(p, c'E', n) != NULL:
        return c'D'
    if n > 19:
        return c'B'
    if whole_number(json, &value) and -0x80000000 <= value <= 0x7FFFFFFF:
        return c'I'
    return c'J'


cdef bint whole_number(const Slice* json, long long* value) noexcept nogil:
    """Whether a JSON value is a whole number without exponent, of DIGITS_MAX digits at most."""
    cdef const char* p = json.data
    cdef Py_ssize_t n = json.length, i = 0
    cdef long long number = 0
    if n > 0 and p[0] == c'-':
        i = 1
    if n == i or n - i > DIGITS_MAX:
        return False
    while i < n:
        if not c'0' <= p[i] <= c'9':
            return False
        number = number * 10 + (p[i] - c'0')
        i += 1
    value[0] = -number if p[0] == c'-' else number
    return True
