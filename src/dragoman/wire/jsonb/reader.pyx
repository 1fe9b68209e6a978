"""The reader of JSONB, fastjson2's binary JSON: bytes to Java's values in Python.

Dubbo 3 writes each field of a body in it (``wire.dubbo.fastjson2``). A document is one value:

| first byte | value |
| --- | --- |
| ``49``-``78``, ``79`` length | text in Latin-1 (ASCII as a rule) |
| ``7a``, ``7e``, and a length in bytes | text in UTF-8, in GB 18030 |
| ``7b``, ``7c``, ``7d``, the same | in UTF-16 with a mark, little endian, big endian |
| ``f0``-``2f``; ``30``-``3f`` b; ``40``-``47`` b b; ``48`` i32 | int, as all lengths are |
| ``d8``-``ef``; ``c8``-``d7`` b; ``c0``-``c7`` b b; ``bf`` i32; ``be`` i64 | long |
| ``bd`` i8, ``bc`` i16, ``ba`` long, ``bb`` length bytes | byte, short, BigInteger |
| ``b2`` 0, ``b3`` 1, ``b4`` long, ``b5`` f64, ``b6`` int, ``b7`` f32 | double, float |
| ``b8`` long, ``b9`` scale number | BigDecimal |
| ``af``, ``b0``, ``b1``, ``90`` int, ``91`` length bytes | null, false, true, char, binary |
| ``ab`` i64 milliseconds, ``ac`` i32 seconds, ``ad`` i32 minutes | java.util.Date |
| ``ae`` long int | Instant: seconds, nanoseconds |
| ``a7``, ``a8``, ``a9``, ``aa`` | LocalTime, LocalDateTime, LocalDate, one with a zone |
| ``94``-``a3``, ``a4`` length | list |
| ``a6`` (key value)* ``a5`` | object |
| ``92`` type value | a value of a class |
| ``93`` text | reference: a path (``jsonb.path``), ``..`` (its container), ``#-1`` (the last) |

A name is a text, ``7f`` text int (which numbers it) or ``7f`` int (one that was numbered); a type
is a text and its number, or the number of one. References are resolved when the document has been
read, for only then all places are there.

The invariants are those of ``hessian2.reader``: what a peer names is never looked up; a length is
believed only as far as bytes are there; depth, containers, digits and costly keys of maps are
bounded; whatever is wrong is a ProtocolError that names the byte.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t

from dragoman.wire.jsonb.tags cimport (
    TAG_BIGINTEGER, TAG_BIGINTEGER_LONG, TAG_BINARY, TAG_BYTE, TAG_CHAR, TAG_DECIMAL,
    TAG_DECIMAL_LONG, TAG_DOUBLE_ZERO, TAG_FALSE, TAG_FLOAT, TAG_INT, TAG_INT_TINY, TAG_LIST,
    TAG_LIST_TINY, TAG_LONG, TAG_NAME, TAG_NULL, TAG_OBJECT, TAG_OBJECT_END, TAG_REFERENCE,
    TAG_SHORT, TAG_TRUE, TAG_TYPED, is_list, is_local, is_moment, is_text,
)
from dragoman.wire.java.bean cimport Bean, new_bean
from dragoman.wire.java.bounded cimport CONTAINERS, DEPTH, ENTRY_WEIGHT, BoundedReader
from dragoman.wire.jsonb.cursor cimport JsonbCursor

from dragoman.errors import ProtocolError
from dragoman.wire.java import BigInteger, Long, TypedList, TypedMap
from dragoman.wire.jsonb.classes import MAPS, PLAIN, decimal_of, model_name
from dragoman.wire.jsonb.path import find

DEPTH_MAX = DEPTH
CONTAINERS_MAX = CONTAINERS


cdef str element_class(str java_class):
    """The class of an array's elements if it is somebody's own: they come without it."""
    if java_class is None or java_class[:1] != "[" or java_class[1:2] == "[":
        return None
    return java_class[1:] if "." in java_class and java_class[1:6] != "java." else None


cdef class JsonbReader(JsonbCursor):
    """Reads the documents in ``data`` one after another; each has its own names and references.

    ``data`` (bytes-like) is kept until the reader goes. With ``exact`` all of Java's types are kept
    (``dragoman.wire.java``), with ``typed`` what subclasses of Python's types can keep: ``Long``,
    ``BigInteger``, ``TypedList``, ``TypedMap``. ``read`` raises ProtocolError with the place,
    LimitError beyond ``depth_max`` or ``containers_max``; afterwards the reader is of no more use.
    """

    def __init__(
        self, data, *, bint exact=False, bint typed=False, int depth_max=DEPTH,
        Py_ssize_t containers_max=CONTAINERS
    ):
        BoundedReader.__init__(
            self, data, exact=exact, depth_max=depth_max, containers_max=containers_max
        )
        self.typed = exact or typed
        self.constants = None

    def read(self):
        """The value of the next document."""
        return self.document()

    cdef object document(self):
        cdef object result, last = None
        cdef bint resolved = False
        self.symbols = []
        self.later = []
        self.depth = 0
        result = self.value()
        for container, key, path in self.later:
            if path != "#-1":
                last = find(result, path)
                resolved = True
            elif not resolved:
                raise ProtocolError("fastjson2: a reference to the last one, and there is none")
            container[key] = last
        return result

    # ---- names

    cdef str name(self):
        """The name of a field or of an entry: a text, or one that was numbered."""
        if self.data[self.at] != TAG_NAME:
            return self.text()
        self.at += 1
        if self.at >= self.n:
            self.cut("a name")
        if is_text(self.data[self.at]):
            return self.numbered()
        return self.by_number()

    cdef str type_name(self):
        """A type: a text and its number, or the number of a text that was there before."""
        if self.at >= self.n:
            self.cut("a type")
        if self.data[self.at] == TAG_NAME:
            return self.name()
        if is_text(self.data[self.at]):
            return self.numbered()
        return self.by_number()

    cdef str numbered(self):
        """A text and the number that it has from now on."""
        cdef str found = self.text()
        cdef Py_ssize_t count = len(self.symbols)
        # Writers count; a gap would let a few bytes ask for a large table.
        cdef int64_t index = self.int32(0, count, "a name that is given the number")
        if index == count:
            self.symbols.append(found)
        else:
            self.symbols[index] = found
        return found

    cdef str by_number(self):
        """A text that was given a number before."""
        cdef Py_ssize_t at = self.at
        cdef int64_t index = self.number()
        if not 0 <= index < len(self.symbols):
            self.bad(f"name {index} of {len(self.symbols)}", at)
        return <str>self.symbols[index]

    # ---- values

    cdef object value(self):
        """The next value of the document."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag
        cdef int64_t number
        if at >= self.n:
            self.cut("a value")
        self.weight_left -= 1
        if self.weight_left < 0:
            self.weigh(0)
        tag = self.data[at]
        if is_text(tag) or tag == TAG_NULL:
            return self.text()
        if is_local(tag) or is_moment(tag) or TAG_DECIMAL_LONG <= tag <= TAG_BIGINTEGER:
            self.weigh(ENTRY_WEIGHT)
        if tag <= TAG_INT or tag >= TAG_INT_TINY or tag == TAG_SHORT or tag == TAG_BYTE:
            return self.number()
        if tag >= TAG_LONG:
            number = self.number()
            return Long(number) if self.typed else number
        self.at = at + 1
        if tag == TAG_OBJECT or TAG_TYPED <= tag <= TAG_LIST:
            return self.nested(tag, at)
        if tag == TAG_FALSE or tag == TAG_TRUE:
            return tag == TAG_TRUE
        if TAG_DOUBLE_ZERO <= tag <= TAG_FLOAT:
            return self.fraction(tag)
        if tag == TAG_DECIMAL_LONG:
            return decimal_of(self.number(), 0)
        if tag == TAG_DECIMAL:
            number = self.int32(-0x80000000, 0x7FFFFFFF, "a scale")
            return decimal_of(self.integer(), number)
        if tag == TAG_BIGINTEGER_LONG or tag == TAG_BIGINTEGER:
            self.at = at
            big = self.integer()
            return BigInteger(big) if self.typed else big
        if tag == TAG_CHAR:
            return chr(<int>self.int32(0, 0xFFFF, "a char"))
        if tag == TAG_BINARY:
            number = self.int32(0, 0x7FFFFFFF, "bytes with a length")
            return PyBytes_FromStringAndSize(<const char*>self.take(number, "bytes"), number)
        if is_local(tag):
            return self.date(tag)
        if is_moment(tag):
            return self.moment(tag)
        self.bad(f"no value begins with 0x{tag:02x}", at)

    cdef object nested(self, uint8_t tag, Py_ssize_t at):
        """A value that may hold others."""
        cdef object result
        if self.depth >= self.depth_max:
            self.too_deep(at)
        self.depth += 1
        if tag == TAG_TYPED:
            result = self.with_class()
        elif tag == TAG_REFERENCE:
            self.bad("a reference where there can be none", at)
        else:
            self.enter(at)
            result = self.map_of(None) if tag == TAG_OBJECT else self.list_of(tag, None)
        self.depth -= 1
        return result

    cdef object with_class(self):
        """A value of a class that is named."""
        return self.of_class(model_name(self.type_name()))

    cdef object of_class(self, str java_class):
        """The next value, of a class unless it says another."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag
        cdef object value
        if at >= self.n:
            self.cut("a value")
        tag = self.data[at]
        if tag == TAG_OBJECT or is_list(tag):
            if self.depth >= self.depth_max:
                self.too_deep(at)
            self.enter(at)
            self.at = at + 1
            self.depth += 1
            value = self.map_of(java_class) if tag == TAG_OBJECT else self.list_of(tag, java_class)
            self.depth -= 1
            return value
        value = self.value()
        if type(value) is str and java_class != "[char":
            if java_class in MAPS or java_class in PLAIN or java_class.startswith("["):
                self.bad(f"a {java_class} that is a text", at)
            # An enum's constant; a class or a currency by its name.
            bean = new_bean(java_class)
            bean.constant = True
            (<dict>bean)["name"] = value
            if self.constants is not None:
                self.constants.add(java_class)
            return bean
        return value

    cdef object list_of(self, uint8_t tag, str java_class):
        cdef Py_ssize_t i, count = tag - TAG_LIST_TINY
        cdef object result  # a list or a subclass of it
        cdef str element = element_class(java_class)
        if tag == TAG_LIST:
            count = self.int32(0, 0x7FFFFFFF, "a list with a length")
        # Each value takes a byte at least.
        if count > self.n - self.at:
            self.cut(f"a list of {count} values")
        if self.typed and java_class is not None and java_class not in PLAIN:
            result = TypedList(java_class)
        else:
            result = []
        for i in range(count):
            if self.at < self.n and self.data[self.at] == TAG_REFERENCE:
                (<list>result).append(None)
                self.reference(result, i)
            elif element is not None:
                (<list>result).append(self.of_class(element))
            else:
                (<list>result).append(self.value())
        if java_class == "[byte":
            try:
                return bytes([each & 255 for each in <list>result])
            except TypeError:
                self.bad("an array of bytes with something else in it", self.at)
        return result

    cdef object map_of(self, str java_class):
        cdef object result  # a dict or a subclass of it
        cdef object key
        cdef uint8_t tag
        cdef bint fields = False
        cdef Py_ssize_t since = len(self.later)
        if self.at >= self.n:
            self.cut("an object")
        tag = self.data[self.at]
        if java_class is None or java_class in PLAIN:
            result = {}
        elif java_class in MAPS:
            result = TypedMap(java_class) if self.typed else {}
        elif is_text(tag) or tag == TAG_NAME or tag == TAG_OBJECT_END:
            result = new_bean(java_class)
            (<Bean>result).constant = False
            fields = True
        else:
            result = TypedMap(java_class)
        while True:
            if self.at >= self.n:
                self.cut("an object")
            tag = self.data[self.at]
            if tag == TAG_OBJECT_END:
                self.at += 1
                return result
            self.weigh(ENTRY_WEIGHT)
            if is_text(tag) or tag == TAG_NAME:
                key = self.name()
            else:
                if fields:
                    result = self.as_map(<Bean>result, since)
                    fields = False
                key = self.key()
            if self.at < self.n and self.data[self.at] == TAG_REFERENCE:
                (<dict>result)[key] = None
                self.reference(result, key)
            else:
                (<dict>result)[key] = self.value()

    cdef object as_map(self, Bean bean, Py_ssize_t since):
        """A map of somebody's own class that began like a bean: it has a key that is no name."""
        cdef Py_ssize_t i
        made = TypedMap(bean.java_class)
        for key, value in bean.items():
            made[key] = made if value is bean else value
        for i in range(since, len(self.later)):
            container, key, path = self.later[i]
            if container is bean:
                self.later[i] = (made, key, path)
        return made

    cdef object key(self):
        """A key that is no text, as Python can have it."""
        cdef Py_ssize_t at = self.at, references = len(self.later)
        cdef object key = self.value()
        if len(self.later) > references:
            # It would change when it is a key already.
            self.bad("a map's key with a reference in it", at)
        return self.key_of(key, at)

    cdef bint reference(self, object container, object key) except -1:
        """Resolve the reference at ``container[key]``: at once, or in the end."""
        self.weigh(ENTRY_WEIGHT)
        cdef str path
        self.at += 1
        path = self.text()
        if path is None:
            self.bad("a reference to nothing", self.at)
        if path == "..":
            container[key] = container
        else:
            self.later.append((container, key, path))
        return True


# A reader of the usual bounds that ``decode`` has done with, and will use again.
cdef JsonbReader spare = None


def decode(
    data, *, bint exact=False, bint typed=False, set constants=None, int depth_max=DEPTH,
    Py_ssize_t containers_max=CONTAINERS
):
    """The value that ``data`` is."""
    global spare
    cdef JsonbReader reader = spare
    cdef bytes kept
    if reader is None or depth_max != DEPTH or containers_max != CONTAINERS:
        reader = JsonbReader(
            data, exact=exact, depth_max=depth_max, containers_max=containers_max
        )
    else:
        # Taken away while it is in use, and for good if it fails: other threads come.
        spare = None
        kept = data if isinstance(data, bytes) else bytes(memoryview(data))
        reader.start(
            kept, <const uint8_t*>PyBytes_AS_STRING(kept), len(kept), exact, DEPTH, CONTAINERS
        )
    reader.typed = exact or typed
    reader.constants = constants
    result = reader.document()
    if reader.at != reader.n:
        reader.bad("more than one value", reader.at)
    if depth_max == DEPTH and containers_max == CONTAINERS:
        reader.start(None, NULL, 0, False, DEPTH, CONTAINERS)
        reader.symbols = reader.later = reader.constants = None
        spare = reader
    return result


def decode_weighed(data, Py_ssize_t weight_left, *, bint exact=False, bint typed=False):
    """The value that ``data`` is, and what is left of what may be read of it and others."""
    cdef JsonbReader reader = JsonbReader(data, exact=exact, typed=typed)
    reader.weight_left = weight_left
    result = reader.document()
    if reader.at != reader.n:
        reader.bad("more than one value", reader.at)
    return result, reader.weight_left
