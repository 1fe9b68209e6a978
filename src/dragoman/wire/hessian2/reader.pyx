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
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t

from dragoman.wire.hessian2.cursor cimport Hessian2Cursor
from dragoman.wire.hessian2.tags cimport (
    LIST_TINY_MASK, TAG_CLASS, TAG_END, TAG_FALSE, TAG_INT, TAG_INT_TINY, TAG_LIST,
    TAG_LIST_TYPED, TAG_LIST_TYPED_TINY, TAG_MAP_TYPED, TAG_NULL, TAG_OBJECT, TAG_OBJECT_TINY,
    TAG_REFERENCE, TAG_TRUE, is_binary, is_date, is_double, is_list, is_long, is_map, is_object,
    is_string, is_typed_list,
)
from dragoman.wire.java.bean cimport Bean, new_bean
from dragoman.wire.java.bounded cimport (
    CONTAINERS, CONTAINER_WEIGHT, DEPTH, ENTRY_WEIGHT, BoundedReader,
)

from dragoman.wire.java import Long, TypedList, TypedMap
from dragoman.wire.java.from_bean import FROM_BEAN
from dragoman.wire.java.jdk import WITHOUT_ELEMENTS

DEPTH_MAX = DEPTH
CONTAINERS_MAX = CONTAINERS

cdef list SMALL = [i for i in range(-16, 256)]


cdef class ClassDefinition:
    """The name and the fields of a class that a stream has defined."""

    def __init__(self, name, fields, convert):
        self.name = name
        self.fields = fields
        self.convert = convert


cdef class Hessian2Reader(Hessian2Cursor):
    """Reads the values of one stream, one after another.

    ``data`` (bytes-like) is kept until the reader goes. With ``exact`` all of Java's types are kept
    (``dragoman.wire.java``); compiled callers may set ``typed`` alone, for what subclasses of
    Python's types can keep: ``Long``, ``TypedList``, ``TypedMap``. Every method raises
    ProtocolError with the place, LimitError beyond ``depth_max`` or ``containers_max``; afterwards
    the reader is of no more use.
    """

    cdef int start(
        self, object owner, const uint8_t* data, Py_ssize_t n, bint exact, int depth_max,
        Py_ssize_t containers_max
    ) except -1:
        """Begin with ``data[:n]``, which ``owner`` keeps alive (for compiled callers)."""
        BoundedReader.start(self, owner, data, n, exact, depth_max, containers_max)
        # Lists that nothing was put into are used again.
        if self.references is None or len(self.references):
            self.references = []
        if self.classes is None or len(self.classes):
            self.classes = []
        if self.types is None or len(self.types):
            self.types = []
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

    # ---- for compiled callers

    cdef dict text_map(self):
        """The next value, which must be a map (or null: empty); entries of strings alone.

        Dubbo's attachments: whatever else they hold is left out.
        """
        return {k: v for k, v in self.plain_map().items() if type(k) is str and type(v) is str}

    cdef dict attachments(self):
        """The next value, which must be a map (or null: empty), with its entries whose keys are
        text, each with the type that it has.
        """
        return {k: v for k, v in self.plain_map().items() if type(k) is str}

    cdef dict plain_map(self):
        """The next value, which must be a map (or null: empty)."""
        cdef Py_ssize_t at = self.at
        value = self.value()
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.bad("no map", at)
        return <dict>value

    # ---- values

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
            self.too_deep(at)
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
        self.enter(self.at - 1)
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
        self.enter(self.at - 1)
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
                value = self.value()
                (<dict>result)[self.key_of(key, at)] = value

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
        self.enter(self.at - 1)
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
