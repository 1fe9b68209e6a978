"""The reader of hessian2: bytes to Java's values in Python (Hessian 2.0 specification, section 4).

Dubbo's bodies for the SDK and the agents' slow paths are read with it. One reader is one stream:
references, classes and types are numbered through all its values. It reads every form that the
specification and hessian-lite know:

| first byte | value |
| --- | --- |
| ``N`` ``T`` ``F`` | null, true, false |
| ``80``-``bf``, ``c0``-``cf`` b, ``d0``-``d7`` b b, ``I`` u32 | int |
| ``d8``-``ef``, ``f0``-``ff`` b, ``38``-``3f`` b b, ``59`` i32, ``L`` i64 | long |
| ``5b``, ``5c``, ``5d`` i8, ``5e`` i16, ``5f`` i32 (thousandths), ``D`` f64 | double |
| ``4a`` i64 milliseconds, ``4b`` i32 minutes | date |
| ``00``-``1f``, ``30``-``33``, ``R``, ``S`` | string (see ``hessian2.string``) |
| ``20``-``2f``, ``34``-``37`` b, ``A`` u16 (more follows), ``B`` u16 | binary |
| ``55`` type, ``V`` type int, ``57``, ``58`` int, ``70``-``77`` type, ``78``-``7f`` | list |
| ``M`` type, ``H``, ended by ``Z`` | map |
| ``C`` name int field*, then a value | class definition |
| ``O`` int, ``60``-``6f`` | object |
| ``51`` int | reference |

The invariants: what a peer names is never looked up; a length is believed only as far as bytes are
there (nothing is allocated by what is claimed); depth, containers and costly keys of maps are
bounded, and so memory is: at most 64 bytes for each byte of input and 512 for each container.
Whatever is wrong ends the stream with a ProtocolError that names the byte.

Long because one class reads every form of a stream.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.datetime cimport import_datetime, timedelta_new
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from dragoman.wire.big_endian cimport read16, read32, read64
from dragoman.wire.hessian2.heads cimport CUT_SHORT, NO_SUCH, binary_head, read_number
from dragoman.wire.hessian2.string cimport read_text
from dragoman.wire.hessian2.tags cimport (
    LIST_TINY_MASK, TAG_BINARY_CHUNK, TAG_CLASS, TAG_DATE, TAG_DOUBLE_BYTE, TAG_DOUBLE_MILLS,
    TAG_DOUBLE_ONE, TAG_DOUBLE_SHORT, TAG_DOUBLE_ZERO, TAG_END, TAG_FALSE, TAG_INT, TAG_INT_TINY,
    TAG_LIST, TAG_LIST_TYPED, TAG_LIST_TYPED_TINY, TAG_MAP_TYPED, TAG_NULL, TAG_OBJECT,
    TAG_OBJECT_TINY, TAG_REFERENCE, TAG_TRUE, date_bytes, double_bytes, is_binary, is_date,
    is_double, is_list, is_long, is_map, is_object, is_string, is_typed_list,
)
from dragoman.wire.java.bean cimport Bean, frozen_key, new_bean

import datetime as _datetime
import sys

from dragoman.errors import LimitError, ProtocolError, UsageError
from dragoman.wire.java.from_bean import FROM_BEAN
from dragoman.wire.java.jdk import WITHOUT_ELEMENTS
from dragoman.wire.java import Date, Long, TypedList, TypedMap

import_datetime()

# Of whoever sets no bound.
cdef Py_ssize_t WEIGHTLESS = sys.maxsize

# Deeper values are refused: each level costs a few hundred bytes of the thread's stack.
cdef enum:
    DEPTH = 256
    # Lists, maps and objects of one stream. An empty one is a single byte on the wire.
    CONTAINERS = 500_000
    # What they weigh beyond what a value does.
    CONTAINER_WEIGHT = 8
    ENTRY_WEIGHT = 4
    # Keys of maps whose hash a peer can choose (anything but text and 64-bit numbers): with more
    # of them, equal hashes would cost quadratic time.
    COSTLY_KEYS_MAX = 2000

DEPTH_MAX = DEPTH
CONTAINERS_MAX = CONTAINERS

cdef object EPOCH = _datetime.datetime(1970, 1, 1, tzinfo=_datetime.timezone.utc)
# Milliseconds that a datetime can hold: the years 1 to 9999.
cdef int64_t FIRST_MS = -62135596800000, LAST_MS = 253402300799999
cdef object ZERO = 0.0, ONE = 1.0
cdef list SMALL = [i for i in range(-16, 256)]


cdef object date_of(int64_t ms):
    """A datetime, or a java.Date if that is beyond it."""
    cdef int64_t days, left
    if not FIRST_MS <= ms <= LAST_MS:
        return Date(ms)
    days = ms // 86400000
    left = ms - days * 86400000
    if left < 0:  # C's division
        left += 86400000
        days -= 1
    return EPOCH + timedelta_new(<int>days, <int>(left // 1000), <int>(left % 1000) * 1000)


cdef class ClassDefinition:
    """The name and the fields of a class that a stream has defined."""

    def __init__(self, name, fields, convert):
        self.name = name
        self.fields = fields
        self.convert = convert


cdef class Hessian2Reader:
    """Reads the values of one stream, one after another.

    ``data`` (bytes-like) is kept until the reader goes. With ``exact`` all of Java's types are kept
    (``dragoman.wire.java``); compiled callers may set ``typed`` alone, for what subclasses of
    Python's types can keep: ``Long``, ``TypedList``, ``TypedMap``. Every method raises
    ProtocolError with the place, LimitError beyond ``depth_max`` or ``containers_max``; afterwards
    the reader is of no more use.
    """

    def __init__(
        self, data, *, bint exact=False, int depth_max=DEPTH, Py_ssize_t containers_max=CONTAINERS
    ):
        cdef bytes kept
        if not 1 <= depth_max <= 2000:
            raise UsageError(f"depth_max is 1 to 2000, not {depth_max}")
        if containers_max < 0:
            raise UsageError(f"containers_max is no less than 0, not {containers_max}")
        kept = data if isinstance(data, bytes) else bytes(memoryview(data))
        self.start(
            kept, <const uint8_t*>PyBytes_AS_STRING(kept), len(kept), exact, depth_max,
            containers_max
        )

    cdef int start(
        self, object owner, const uint8_t* data, Py_ssize_t n, bint exact, int depth_max,
        Py_ssize_t containers_max
    ) except -1:
        """Begin with ``data[:n]``, which ``owner`` keeps alive (for compiled callers)."""
        self.owner = owner
        self.data = data
        self.n = n
        self.at = 0
        # Lists that nothing was put into are used again.
        if self.references is None or len(self.references):
            self.references = []
        if self.classes is None or len(self.classes):
            self.classes = []
        if self.types is None or len(self.types):
            self.types = []
        self.exact = self.typed = exact
        self.depth = 0
        self.depth_max = depth_max
        self.containers_max = containers_max
        self.containers_left = containers_max
        self.costly_keys = 0
        self.weight_left = WEIGHTLESS
        return 0

    # ---- for Python callers

    def read(self):
        """The next value."""
        return self.value()

    def read_int(self):
        """The next value, which must be an int or a long."""
        return self.number(self.tag())

    def read_text(self):
        """The next value, which must be a string or null."""
        return self.text()

    @property
    def at_end(self):
        """Whether all has been read."""
        return self.at >= self.n

    # ---- for compiled callers

    cdef int32_t int32(self) except? -1:
        """The next value, which must be an int (or a long in its range)."""
        cdef Py_ssize_t at = self.at
        cdef int64_t number = self.number(self.tag())
        if not -0x80000000 <= number <= 0x7FFFFFFF:
            self.bad("a number beyond an int", at)
        return <int32_t>number

    cdef str text(self):
        """The next value, which must be a string or null."""
        cdef uint8_t tag = self.tag()
        if tag == TAG_NULL:
            return None
        if not is_string(tag):
            self.bad(f"no string but a value that begins with 0x{tag:02x}", self.at - 1)
        return self.string()

    cdef dict text_map(self):
        """The next value, which must be a map (or null: empty); entries of strings alone.

        Dubbo's attachments: whatever else they hold is left out.
        """
        cdef Py_ssize_t at = self.at
        value = self.value()
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.bad("no map", at)
        return {k: v for k, v in (<dict>value).items() if type(k) is str and type(v) is str}

    cdef dict attachments(self):
        """The next value, which must be a map (or null: empty), with its entries whose keys are
        text, each with the type that it has.
        """
        cdef Py_ssize_t at = self.at
        value = self.value()
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.bad("no map", at)
        return {k: v for k, v in (<dict>value).items() if type(k) is str}

    # ---- errors

    cdef object bad(self, str what, Py_ssize_t at):
        raise ProtocolError(f"hessian2: {what} at byte {at}")

    cdef object cut(self, str what):
        raise ProtocolError(f"hessian2: {what} is cut short at byte {self.n}")

    # ---- pieces

    cdef uint8_t tag(self) except? 255:
        """Take the byte that a value begins with."""
        if self.at >= self.n:
            self.cut("a value")
        self.at += 1
        return self.data[self.at - 1]

    cdef int64_t number(self, uint8_t tag) except? -1:
        """The int or long that begins with ``tag``, which has been taken."""
        cdef int64_t number = 0
        cdef int size = read_number(tag, self.data + self.at, self.n - self.at, &number)
        if size < 0:
            if size == CUT_SHORT:
                self.cut("a number")
            self.bad(f"no int but a value that begins with 0x{tag:02x}", self.at - 1)
        self.at += size
        return number

    cdef int enter(self) except -1:
        """Count a container."""
        if self.containers_left <= 0:
            raise LimitError(
                f"hessian2: more than {self.containers_max} lists, maps and objects"
                f" at byte {self.at - 1}"
            )
        self.containers_left -= 1
        self.weigh(CONTAINER_WEIGHT)
        return 0

    cdef int weigh(self, int more) except -1:
        """Count what takes longer than a number does."""
        self.weight_left -= more
        if self.weight_left < 0:
            raise LimitError(f"hessian2: more values than are taken in one call by byte {self.at}")
        return 0

    cdef object double(self, uint8_t tag):
        """The double that begins with ``tag``, which has been taken."""
        cdef const uint8_t* p = self.data + self.at
        cdef int size = double_bytes(tag)
        cdef uint64_t bits
        cdef double number
        if size > self.n - self.at:
            self.cut("a double")
        self.at += size
        if tag == TAG_DOUBLE_ZERO:
            return ZERO
        if tag == TAG_DOUBLE_ONE:
            return ONE
        if tag == TAG_DOUBLE_BYTE:
            return <double>(<int8_t>p[0])
        if tag == TAG_DOUBLE_SHORT:
            return <double>(<int16_t>read16(p))
        if tag == TAG_DOUBLE_MILLS:
            # As Java computes it: not the same as a division by 1000.
            return 0.001 * <double>(<int32_t>read32(p))
        bits = read64(p)
        memcpy(&number, &bits, 8)
        return number

    cdef object string(self):
        """The string whose first byte has been taken."""
        cdef Py_ssize_t end = 0
        cdef str result = read_text(self.data, self.n, self.at - 1, &end)
        if result is None:
            if end >= self.n:
                self.cut("a string")
            self.bad("a string's text or chunk is malformed", end)
        self.at = end
        return result

    cdef bytes binary(self):
        """The bytes whose first byte has been taken."""
        cdef Py_ssize_t start = self.at - 1, at = start, total = 0, size = 0
        cdef bytes result
        cdef char* to
        cdef int head
        cdef bint last = False
        while not last:
            head = binary_head(self.data + at, self.n - at, &size)
            if head == NO_SUCH:
                self.bad(f"no chunk of a binary value begins with 0x{self.data[at]:02x}", at)
            if head == CUT_SHORT:
                self.cut("a binary value")
            last = self.data[at] != TAG_BINARY_CHUNK
            total += size
            at += head + size
        self.at = at
        result = PyBytes_FromStringAndSize(NULL, total)
        to = PyBytes_AS_STRING(result)
        at = start
        while at < self.at:
            at += binary_head(self.data + at, self.n - at, &size)
            memcpy(to, self.data + at, size)
            to += size
            at += size
        return result

    cdef object date(self, uint8_t tag):
        """The date that begins with ``tag``, which has been taken."""
        cdef const uint8_t* p = self.data + self.at
        cdef int size = date_bytes(tag)
        if size > self.n - self.at:
            self.cut("a date")
        self.at += size
        if tag == TAG_DATE:
            return date_of(<int64_t>read64(p))
        return date_of(<int64_t>(<int32_t>read32(p)) * 60000)

    cdef str type_name(self):
        """A type: a string, or the number of one that was there before."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag = self.tag()
        cdef int64_t index
        cdef str name
        if is_string(tag):
            name = self.string()
            self.types.append(name)
            return name
        index = self.number(tag)
        if not 0 <= index < len(self.types):
            self.bad(f"type {index} of {len(self.types)}", at)
        return <str>self.types[index]

    # ---- values

    cdef object value(self):
        """The next value."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag
        cdef int64_t number
        if at >= self.n:
            self.cut("a value")
        self.weight_left -= 1
        if self.weight_left < 0:
            self.weigh(0)
        tag = self.data[at]
        self.at = at + 1
        if tag >= TAG_INT_TINY:
            number = self.number(tag)
            if self.typed and is_long(tag):
                return Long(number)
            if -16 <= number < 256:
                return SMALL[number + 16]
            return number
        if is_string(tag):
            return self.string()
        if tag == TAG_NULL:
            return None
        if tag == TAG_TRUE:
            return True
        if tag == TAG_FALSE:
            return False
        if tag == TAG_INT:
            return self.number(tag)
        if is_long(tag):
            number = self.number(tag)
            return Long(number) if self.typed else number
        if is_double(tag):
            return self.double(tag)
        if is_binary(tag):
            return self.binary()
        if is_date(tag):
            self.weigh(CONTAINER_WEIGHT)
            return self.date(tag)
        if tag == TAG_REFERENCE:
            return self.reference()
        return self.nested(tag, at)

    cdef object nested(self, uint8_t tag, Py_ssize_t at):
        """A list, map or object that begins with ``tag`` at ``at``, behind definitions or not."""
        cdef object result
        if self.depth >= self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        self.depth += 1
        while tag == TAG_CLASS:
            self.definition()
            at = self.at
            tag = self.tag()
            if not (tag == TAG_CLASS or is_object(tag)):
                # A value of another kind behind a definition: legal, if odd.
                self.at = at
                result = self.value()
                self.depth -= 1
                return result
        if tag == TAG_OBJECT:
            result = self.instance(self.number(self.tag()), at)
        elif is_object(tag):
            result = self.instance(tag - TAG_OBJECT_TINY, at)
        elif is_map(tag):
            result = self.map_of(tag == TAG_MAP_TYPED)
        elif is_list(tag):
            result = self.list_of(tag)
        else:
            self.bad(f"no value begins with 0x{tag:02x}", at)
        self.depth -= 1
        return result

    cdef object list_of(self, uint8_t tag):
        cdef object result  # a list or a subclass of it
        cdef str name = None
        cdef int64_t count = -1, i
        cdef Py_ssize_t at
        self.enter()
        if is_typed_list(tag):
            name = self.type_name()
        if tag >= TAG_LIST_TYPED_TINY:
            count = tag & LIST_TINY_MASK
        elif tag == TAG_LIST_TYPED or tag == TAG_LIST:
            at = self.at
            count = self.number(self.tag())
            if not 0 <= count <= 0x7FFFFFFF:
                self.bad(f"a list of {count} values", at)
        if self.typed and name:
            result = TypedList(name)
        else:
            result = []
        self.references.append(result)
        if count >= 0:
            # Each value takes a byte at least.
            if count > self.n - self.at:
                self.cut(f"a list of {count} values")
            for i in range(count):
                (<list>result).append(self.value())
        else:
            while True:
                if self.at >= self.n:
                    self.cut("a list")
                if self.data[self.at] == TAG_END:
                    self.at += 1
                    break
                (<list>result).append(self.value())
        return result

    cdef object map_of(self, bint typed):
        cdef object result  # a dict or a subclass of it
        cdef str name
        cdef object key
        cdef Py_ssize_t at
        self.enter()
        if typed:
            name = self.type_name()
            # Maps of somebody's own class, too: other languages write objects so.
            if name and (self.typed or not name.startswith("java.")):
                result = TypedMap(name)
            else:
                result = {}
        else:
            result = {}
        self.references.append(result)
        while True:
            at = self.at
            if at >= self.n:
                self.cut("a map")
            if self.data[at] == TAG_END:
                self.at = at + 1
                return result
            self.weigh(ENTRY_WEIGHT)
            key = self.value()
            if type(key) is str:
                (<dict>result)[key] = self.value()
            else:
                self.put_key(<dict>result, key, self.value(), at)

    cdef int put_key(self, dict target, object key, object value, Py_ssize_t at) except -1:
        """Put an entry whose key is no text."""
        if isinstance(key, int) and -0x8000000000000000 <= key <= 0x7FFFFFFFFFFFFFFF:
            target[key] = value
            return 0
        self.costly_keys += 1
        if self.costly_keys > COSTLY_KEYS_MAX:
            raise LimitError(
                f"hessian2: more than {COSTLY_KEYS_MAX} keys of maps that are neither text nor a"
                f" number of 64 bits at byte {at}"
            )
        try:
            target[frozen_key(key)] = value
        except TypeError as error:
            raise LimitError(f"hessian2: a map's key {error} at byte {at}") from None
        return 0

    cdef int definition(self) except -1:
        """A class definition whose first byte has been taken."""
        cdef Py_ssize_t at = self.at
        cdef int64_t count, i
        cdef list fields
        name = self.text()
        if not name:
            self.bad("a class without a name", at)
        at = self.at
        count = self.number(self.tag())
        if not 0 <= count <= self.n - self.at:
            self.bad(f"a class of {count} fields in {self.n - self.at} bytes", at)
        self.weigh(CONTAINER_WEIGHT)
        self.weigh(<int>count)
        fields = []
        for i in range(count):
            at = self.at
            field = self.text()
            if field is None:
                self.bad("a field without a name", at)
            fields.append(field)
        self.classes.append(ClassDefinition(
            name, tuple(fields),
            FROM_BEAN.get(name) if not self.exact or name == WITHOUT_ELEMENTS else None
        ))
        return 0

    cdef object instance(self, Py_ssize_t index, Py_ssize_t at):
        """The object of a class whose number has been taken."""
        cdef ClassDefinition definition
        cdef Bean bean
        cdef Py_ssize_t place
        if not 0 <= index < len(self.classes):
            self.bad(f"class {index} of {len(self.classes)}", at)
        self.enter()
        definition = <ClassDefinition>self.classes[index]
        bean = new_bean(definition.name)
        place = len(self.references)
        self.references.append(bean)
        for field in definition.fields:
            (<dict>bean)[field] = self.value()
        if definition.convert is None:
            return bean
        converted = definition.convert(bean)
        if converted is None:
            return bean
        self.references[place] = converted
        return converted

    cdef object reference(self):
        cdef Py_ssize_t at = self.at - 1
        cdef int64_t index = self.number(self.tag())
        if not 0 <= index < len(self.references):
            self.bad(f"reference {index} of {len(self.references)}", at)
        return self.references[index]


def decode_stream(
    data, *, bint exact=False, int depth_max=DEPTH, Py_ssize_t containers_max=CONTAINERS
):
    """All values of one stream."""
    cdef Hessian2Reader reader = Hessian2Reader(
        data, exact=exact, depth_max=depth_max, containers_max=containers_max
    )
    cdef list values = []
    while reader.at < reader.n:
        values.append(reader.value())
    return values


# A reader of the usual bounds that ``decode`` has done with, and will use again.
cdef Hessian2Reader spare = None


def decode(data, *, bint exact=False, int depth_max=DEPTH, Py_ssize_t containers_max=CONTAINERS):
    """The one value that ``data`` is."""
    global spare
    cdef Hessian2Reader reader = spare
    cdef bytes kept
    if reader is None or depth_max != DEPTH or containers_max != CONTAINERS:
        reader = Hessian2Reader(
            data, exact=exact, depth_max=depth_max, containers_max=containers_max
        )
    else:
        # Taken away while it is in use: other threads come.
        spare = None
        kept = data if isinstance(data, bytes) else bytes(memoryview(data))
        reader.start(
            kept, <const uint8_t*>PyBytes_AS_STRING(kept), len(kept), exact, DEPTH, CONTAINERS
        )
    result = reader.value()
    if reader.at != reader.n:
        reader.bad("more than one value", reader.at)
    if depth_max == DEPTH and containers_max == CONTAINERS:
        reader.start(None, NULL, 0, False, DEPTH, CONTAINERS)
        spare = reader
    return result
