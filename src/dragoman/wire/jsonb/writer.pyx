"""The writer of JSONB: Java's values in Python to bytes, as fastjson2 writes them for Dubbo.

``wire.dubbo.fastjson2`` writes the fields of bodies with it, each a document of its own (the
forms: ``jsonb.reader``). Values are those of ``dragoman.wire.java``; what Java would write without
a class is written so, beans and constants of enums always with theirs, for a receiver knows the
types of parameters only as far as they are erased.

The invariants: an object that comes again is written as a reference where Java can follow one, and
once more where it cannot (below a set or a map's key that is no plain name, within an array): the
bytes are bounded, and so is the depth, hence cycles end. After an error what was written of the
value is there: whoever writes into a link's buffer puts its length back.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dragoman.wire.big_endian cimport put32, put64
from dragoman.wire.jsonb.tags cimport (
    ASCII_TINY_MAX, LIST_TINY_MAX, TAG_ASCII, TAG_ASCII_TINY, TAG_BINARY, TAG_BYTE, TAG_CHAR,
    TAG_DOUBLE, TAG_DOUBLE_LONG, TAG_DOUBLE_ONE, TAG_DOUBLE_ZERO, TAG_FALSE, TAG_FLOAT,
    TAG_FLOAT_INT, TAG_INT, TAG_INT_BYTE_ZERO, TAG_INT_SHORT_ZERO, TAG_LIST, TAG_LIST_TINY,
    TAG_LONG, TAG_LONG_BYTE_ZERO, TAG_LONG_INT, TAG_LONG_SHORT_ZERO, TAG_LONG_TINY_ZERO, TAG_NAME,
    TAG_NULL, TAG_OBJECT, TAG_OBJECT_END, TAG_REFERENCE, TAG_SHORT, TAG_TRUE, TAG_TYPED,
    TAG_UTF16_LITTLE, TAG_UTF8,
)
from dragoman.wire.java.bean cimport Bean
from dragoman.wire.java.short_number cimport put_short_number
from dragoman.wire.buffer cimport Buffer

import datetime as _datetime
import decimal
import enum
import struct
import uuid
from collections.abc import Mapping

from dragoman.errors import UsageError
from dragoman.wire.java.jdk import ENUM_SET
from dragoman.wire.java.to_bean import plain_bean
from dragoman.wire.java import BigInteger, Date, Long, TypedList, TypedMap
from dragoman.wire.jsonb.classes import (
    BEAN_NAMES, PLAIN, TO_BYTES, is_constant, put_decimal, put_integer, put_moment, wire_name,
)
from dragoman.wire.jsonb.path import text_of

cdef extern from "Python.h":
    uint32_t PyUnicode_MAX_CHAR_VALUE(object text)
    const uint8_t* PyUnicode_1BYTE_DATA(object text)

cdef enum:
    DEPTH = 256
    ROOT = -1
    SAMPLE = 64                     # units of a text by which fastjson2 chooses its encoding
    BYTES_MAX = 64 * 1024 * 1024    # of a document: shared values may have been written often

DEPTH_MAX = DEPTH

cdef object DATETIME = _datetime.datetime
cdef str OPTIONAL = "java.util.Optional"
cdef tuple WELL_KNOWN = (
    _datetime.date, _datetime.time, _datetime.timedelta, decimal.Decimal, uuid.UUID,
)
# Java gives the members of these in an order of its own, or cannot follow a path through them.
cdef object is_set = frozenset(
    "java.util." + name for name in (
        "HashSet", "LinkedHashSet", "TreeSet", "concurrent.CopyOnWriteArraySet",
        "concurrent.ConcurrentSkipListSet",
    )
).__contains__
# What the fields of a bean cause that is not what its class says.
cdef tuple NO_VALUE = (
    KeyError, ValueError, TypeError, AttributeError, OverflowError, struct.error,
)
cdef dict NAMES = BEAN_NAMES
cdef dict JDK = TO_BYTES
cdef dict BOXES = {
    "Ljava/lang/Byte;": "B", "Ljava/lang/Short;": "S", "Ljava/lang/Character;": "C",
    "Ljava/lang/Float;": "F", "Ljava/lang/Double;": "D", "Ljava/lang/Long;": "J",
}


cdef class JsonbWriter:
    """Writes documents one after another, each with names and references of its own.

    ``take()`` gives the bytes written so far. ``constants`` are the classes of which beans with the
    one field ``name`` are an enum's constants, if that is known; otherwise each bean says so, or
    ``jsonb.classes.is_constant``. UsageError when a value cannot be written or nests deeper than
    ``depth_max``; begin a new writer then.
    """

    def __init__(self, *, constants=None, int depth_max=DEPTH):
        if not 1 <= depth_max <= 2000:
            raise UsageError(f"depth_max is 1 to 2000, not {depth_max}")
        self.constants = constants
        self.start(Buffer(), depth_max)

    cdef int start(self, Buffer out, int depth_max) except -1:
        """Write to the end of ``out`` (for compiled callers)."""
        self.out = out
        self.depth_max = depth_max
        return 0

    def write(self, value, descriptor=None):
        """Write ``value`` as a document, as the one JVM descriptor says, if given."""
        if descriptor is None:
            self.value(value)
        else:
            self.typed(value, descriptor)

    def take(self):
        """The bytes written since the last ``take``."""
        return self.out.take()

    # ---- documents

    cdef int value(self, object value) except -1:
        """A document."""
        self.symbols = {}
        self.seen = {}
        self.depth = 0
        if isinstance(value, (bytes, bytearray, memoryview)):
            # As the root, and only there, Java gives an array of bytes its type.
            self.type_name("[B")
        self.any(value, None, (), None, ROOT)
        self.seen = None
        return 0

    cdef int typed(self, object value, str descriptor) except -1:
        """A document whose type is declared."""
        cdef str kind = BOXES.get(descriptor, descriptor)
        cdef uint8_t* to
        cdef float single
        cdef uint32_t bits
        cdef int64_t number
        if kind == "C" and type(value) is str and len(value) == 1 and ord(value) <= 0xFFFF:
            self.tag(TAG_CHAR)
            return self.int32(ord(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if kind == "B" and -0x80 <= value <= 0x7F:
                self.tag(TAG_BYTE)
                return self.tag(<uint8_t>(<int>value & 255))
            if kind == "S" and -0x8000 <= value <= 0x7FFF:
                self.tag(TAG_SHORT)
                self.tag(<uint8_t>((<int>value >> 8) & 255))
                return self.tag(<uint8_t>(<int>value & 255))
            if kind == "J" and -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
                return self.int64(value)
            if kind == "D" or kind == "F":
                value = float(value)
        if kind == "F" and isinstance(value, float):
            single = <float>(<double>value)
            if -0x40000 <= single < 0x40000 and single == <int64_t>single and (
                single != 0 or str(value)[0] != "-"
            ):
                self.tag(TAG_FLOAT_INT)
                return self.int32(<int64_t>single)
            memcpy(&bits, &single, 4)
            to = <uint8_t*>self.out.reserve(5)
            to[0] = TAG_FLOAT
            put32(to + 1, bits)
            self.out.length += 5
            return 0
        return self.value(value)

    # ---- single values

    cdef int tag(self, uint8_t byte) except -1:
        self.out.reserve(1)[0] = <char>byte
        self.out.length += 1
        return 0

    cdef int raw(self, bytes data) except -1:
        return self.out.append(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int int32(self, int64_t value) except -1:
        """An int; all lengths and numbers of names are such."""
        cdef uint8_t* to = <uint8_t*>self.out.reserve(5)
        cdef int size = put_short_number(
            to, value, -16, 47, 0, TAG_INT_BYTE_ZERO, TAG_INT_SHORT_ZERO
        )
        if size == 0:
            to[0] = TAG_INT
            put32(to + 1, <uint32_t>value)
            size = 5
        self.out.length += size
        return 0

    cdef int int64(self, int64_t value) except -1:
        """A long."""
        cdef uint8_t* to = <uint8_t*>self.out.reserve(9)
        cdef int size = put_short_number(
            to, value, -8, 15, TAG_LONG_TINY_ZERO, TAG_LONG_BYTE_ZERO, TAG_LONG_SHORT_ZERO
        )
        if size == 0:
            if -0x80000000 <= value <= 0x7FFFFFFF:
                to[0] = TAG_LONG_INT
                put32(to + 1, <uint32_t>value)
                size = 5
            else:
                to[0] = TAG_LONG
                put64(to + 1, <uint64_t>value)
                size = 9
        self.out.length += size
        return 0

    cdef int double(self, double value) except -1:
        cdef uint8_t* to
        cdef uint64_t bits
        memcpy(&bits, &value, 8)
        if bits == 0 or value == 1:
            return self.tag(TAG_DOUBLE_ONE if bits else TAG_DOUBLE_ZERO)
        # Minus zero as it is: what fastjson2 makes of it loses the sign.
        if value != 0 and -0x80000000 <= value <= 0x7FFFFFFF and value == <int64_t>value:
            self.tag(TAG_DOUBLE_LONG)
            return self.int64(<int64_t>value)
        to = <uint8_t*>self.out.reserve(9)
        to[0] = TAG_DOUBLE
        put64(to + 1, bits)
        self.out.length += 9
        return 0

    cdef int text(self, str value) except -1:
        """A text in the encoding that fastjson2 would choose."""
        cdef bytes data
        cdef Py_ssize_t i, n
        cdef const uint8_t* p
        cdef int narrow = 0, sampled
        if PyUnicode_MAX_CHAR_VALUE(value) < 0x100:
            n = len(value)
            if n <= ASCII_TINY_MAX:
                self.tag(<uint8_t>(TAG_ASCII_TINY + n))
            else:
                self.tag(TAG_ASCII)
                if n > 0x7FFFFFFF:
                    raise UsageError("a text of 2 GiB")
                self.int32(n)
            return self.out.append(PyUnicode_1BYTE_DATA(value), n)
        data = value.encode("utf-16-le", "surrogatepass")
        p = <const uint8_t*>PyBytes_AS_STRING(data)
        n = PyBytes_GET_SIZE(data)
        sampled = min(n // 2, SAMPLE)
        for i in range(sampled):
            narrow += p[2 * i] == 0 or p[2 * i + 1] == 0
        if narrow and sampled // narrow < 3:
            try:
                utf8 = value.encode()
            except UnicodeEncodeError:  # half of a pair
                return self.chunk(TAG_UTF16_LITTLE, data)
            if len(utf8) <= n:
                return self.chunk(TAG_UTF8, utf8)
        return self.chunk(TAG_UTF16_LITTLE, data)

    cdef int chunk(self, uint8_t tag, bytes data) except -1:
        """Bytes behind their length."""
        if PyBytes_GET_SIZE(data) > 0x7FFFFFFF:
            raise UsageError("a value of 2 GiB")
        self.tag(tag)
        self.int32(PyBytes_GET_SIZE(data))
        return self.raw(data)

    # ---- names

    cdef int numbered(self, str name) except -1:
        """A name with its number, or that alone if it was there before; -> whether it was."""
        known = self.symbols.get(name)
        if known is not None:
            self.int32(<int64_t>known)
            return 1
        known = len(self.symbols)
        self.symbols[name] = known
        self.text(name)
        self.int32(<int64_t>known)
        return 0

    cdef int type_name(self, str name) except -1:
        """The mark and the class of a value that follows."""
        self.tag(TAG_TYPED)
        self.numbered(name)
        return 0

    cdef int field(self, str name) except -1:
        self.tag(TAG_NAME)
        self.numbered(name)
        return 0

    # ---- values

    cdef int any(
        self, object value, object holder, object parent, object name, Py_ssize_t index
    ) except -1:
        """A value that stands in ``holder``, whose steps are ``parent`` (``jsonb.path.text_of``):
        under a name there or, if that is None, at an index."""
        cdef type kind = type(value)
        cdef object path
        if kind is str:
            return self.text(<str>value)
        if value is None:
            return self.tag(TAG_NULL)
        if kind is bool:
            return self.tag(TAG_TRUE if value is True else TAG_FALSE)
        if kind is int:
            return self.integer(value)
        if kind is float:
            return self.double(<double>value)
        if kind is bytes:
            return self.chunk(TAG_BINARY, <bytes>value)
        if kind is DATETIME and value.tzinfo is not None:
            return self.raw(put_moment(value))
        if isinstance(value, (list, tuple, dict, set, frozenset)):
            if self.depth >= self.depth_max:
                raise UsageError(f"fastjson2: nested deeper than {self.depth_max}")
            path = (
                parent if parent is None or index == ROOT
                else (parent, index if name is None else name)
            )
            if self.refer(value, holder, path):
                return 0
            if self.out.length > BYTES_MAX:
                raise UsageError(f"fastjson2: a value of more than {BYTES_MAX} bytes")
            self.depth += 1
            if isinstance(value, Bean):
                self.bean(<Bean>value, path)
            elif isinstance(value, dict):
                self.entries(
                    <dict>value, value.java_class if isinstance(value, TypedMap) else None, path
                )
            elif isinstance(value, (set, frozenset)):
                self.items(value, "java.util.HashSet", None)
            else:
                self.items(
                    value, value.java_class if isinstance(value, TypedList) else None, path
                )
            self.depth -= 1
            return 0
        return self.other(value)

    cdef int integer(self, object value) except -1:
        """An int: the smallest of Java's types that holds it."""
        cdef int overflow = 0
        cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return self.raw(put_integer(value))
        if -0x80000000 <= number <= 0x7FFFFFFF:
            return self.int32(number)
        return self.int64(number)

    cdef int other(self, object value) except -1:
        """Values of types that are rarer, and of subclasses."""
        if isinstance(value, Date):
            return self.raw(put_moment(value))
        if isinstance(value, BigInteger):
            return self.raw(put_integer(int(value)))
        if isinstance(value, Long):
            return self.int64(value)
        if isinstance(value, enum.Enum):
            return self.any(value.value, None, None, None, ROOT)
        if isinstance(value, int):
            return self.integer(int(value))
        if isinstance(value, float):
            return self.double(value)
        if isinstance(value, str):
            return self.text(str(value))
        if isinstance(value, (bytearray, memoryview)):
            return self.chunk(TAG_BINARY, bytes(value))
        if isinstance(value, decimal.Decimal):
            return self.raw(put_decimal(value))
        if isinstance(value, DATETIME) and value.tzinfo is not None:
            return self.raw(put_moment(value))
        if isinstance(value, WELL_KNOWN):
            bean = plain_bean(value)
            return self.raw(TO_BYTES[bean.java_class](bean))
        if isinstance(value, Mapping):
            return self.any(dict(value), None, None, None, ROOT)
        raise UsageError(
            f"fastjson2: a value of {type(value).__module__}.{type(value).__qualname__} cannot be"
            " written"
        )

    cdef bint refer(self, object value, object holder, object path) except -1:
        """Write a reference to what has been written already, if there can be one."""
        cdef object before
        if value is holder:
            self.tag(TAG_REFERENCE)
            self.text("..")
            return True
        before = self.seen.get(<size_t><void*>value)
        if before is None:
            # The container with its place: an object that goes would leave its address to others.
            self.seen[<size_t><void*>value] = (value, path)
            return False
        if path is None or (<tuple>before)[1] is None:
            return False
        if isinstance(holder, TypedList) and holder.java_class[:1] == "[":
            return False
        where = text_of((<tuple>before)[1])
        if where is None:
            return False
        self.tag(TAG_REFERENCE)
        self.text(where)
        return True

    cdef int items(
        self, object values, str java_class, object path, bint constants=False
    ) except -1:
        """A list, an array or a set, perhaps of nothing but an enum's constants."""
        cdef Py_ssize_t count = len(values), i = 0
        cdef str inner = None
        if java_class is not None and java_class not in PLAIN:
            self.type_name(wire_name(java_class))
            if java_class[:1] == "[":
                inner = java_class[1:]
            elif is_set(java_class):
                path = None
        if count <= LIST_TINY_MAX:
            self.tag(<uint8_t>(TAG_LIST_TINY + count))
        else:
            self.tag(TAG_LIST)
            self.int32(count)
        for value in values:
            if constants and isinstance(value, Bean) and type(value.get("name")) is str:
                self.type_name((<Bean>value).java_class)
                self.text(value["name"])
                continue
            if inner is not None and isinstance(value, TypedList) and value.java_class == inner:
                # The rows of an array of arrays have no types of their own.
                value = list(value)
            self.any(value, values, path, None, i)
            i += 1
        return 0

    cdef int entries(self, dict values, str java_class, object path) except -1:
        """A map."""
        if java_class is not None and java_class not in PLAIN:
            self.type_name(wire_name(java_class))
        self.tag(TAG_OBJECT)
        for key, value in values.items():
            if type(key) is str:
                self.text(<str>key)
            else:
                if isinstance(key, tuple):
                    key = list(key)
                self.any(key, None, None, None, ROOT)
            self.any(value, values, path if type(key) is str else None, key, 0)
        self.tag(TAG_OBJECT_END)
        return 0

    cdef int bean(self, Bean bean, object path) except -1:
        """An object with its class, an enum's constant, or a value of the JDK."""
        convert = JDK.get(bean.java_class)
        if convert is not None:
            try:
                data = convert(bean)
            except NO_VALUE:
                pass
            else:
                return self.raw(data)
        if bean.java_class == ENUM_SET and isinstance(bean.get("objects"), list):
            return self.items(bean["objects"], "java.util.RegularEnumSet", None, True)
        if bean.java_class == OPTIONAL and len(bean) <= 1:
            # On the wire it is what is in it.
            for value in bean.values():
                return self.any(value, None, path, None, ROOT)
            return self.tag(TAG_NULL)
        self.type_name(NAMES.get(bean.java_class, bean.java_class))
        if len(bean) == 1 and is_constant(bean, self.constants):
            return self.text(bean["name"])
        self.tag(TAG_OBJECT)
        for name, value in bean.items():
            if type(name) is not str:
                raise UsageError(f"fastjson2: a field of {bean.java_class} that is no text")
            self.field(<str>name)
            self.any(value, bean, path, name, 0)
        self.tag(TAG_OBJECT_END)
        return 0


# A writer of the usual depth that ``encode`` has done with, and will use again.
cdef JsonbWriter spare = None


def encode(value, descriptor=None, *, int depth_max=DEPTH):
    """The document of a value."""
    global spare
    cdef JsonbWriter writer = spare
    if writer is None or depth_max != DEPTH:
        writer = JsonbWriter(depth_max=depth_max)
    # Taken away while it is in use, and for good if it fails: other threads come.
    spare = None
    writer.write(value, descriptor)
    result = writer.out.take()
    if depth_max == DEPTH:
        spare = writer
    return result
