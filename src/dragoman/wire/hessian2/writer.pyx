"""The writer of hessian2: Java's values in Python to bytes, as hessian-lite would write them.

The SDK writes with it through Python; the agents write requests with the C-level methods, straight
into a link's buffer. One writer is one stream: references, classes and types are numbered through
all its values. A JVM descriptor says what Java's method wants: ``J`` makes a long of any int,
``[I`` an int array, ``Lcom/example/User;`` an object of a mapping, an enum's constant of a text.

The invariants: an object that comes again is written as a reference, so cycles and sharing end and
cost nothing; depth is bounded. After an error what was written of the value is there and the
stream of no more use: whoever writes into a link's buffer puts its length back.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.dict cimport PyDict_Next
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.pen cimport Hessian2Pen
from dragoman.wire.hessian2.plan cimport (
    ARRAY, AS_IS, BOOLEAN, BYTES, CHARACTER, CHARACTERS, CONVERTED, DOUBLE, INTEGER, LONG, MAP,
    NUMBER, OBJECT, TEXT, Plan, plan_of,
)
from dragoman.wire.hessian2.references cimport empty_table, free_table, number_of
from dragoman.wire.hessian2.string cimport write_text
from dragoman.wire.hessian2.tags cimport (
    LIST_TINY_MAX, OBJECT_TINY_MAX, TAG_CLASS, TAG_END, TAG_LIST, TAG_LIST_TINY, TAG_LIST_TYPED,
    TAG_LIST_TYPED_TINY, TAG_MAP, TAG_MAP_TYPED, TAG_OBJECT, TAG_OBJECT_TINY, TAG_REFERENCE,
)
from dragoman.wire.java.bean cimport Bean
from dragoman.wire.java.descriptor cimport one_descriptor, split_descriptor

import datetime as _datetime
import decimal
import enum
import uuid
from collections.abc import Mapping

from dragoman.errors import UsageError
from dragoman.wire.java import BigInteger, Date, Long, TypedList, TypedMap
from dragoman.wire.java.descriptor import count_parameters
from dragoman.wire.java.jdk import EPOCH as _EPOCH
from dragoman.wire.java.to_bean import plain_bean

cdef enum:
    DEPTH = 256
DEPTH_MAX = DEPTH

cdef object EPOCH = _EPOCH
cdef object MILLISECOND = _datetime.timedelta(milliseconds=1)
cdef object DATETIME = _datetime.datetime
cdef tuple WELL_KNOWN = (
    _datetime.date, _datetime.time, _datetime.timedelta, decimal.Decimal, uuid.UUID,
)


cdef class ClassWritten:
    """The fields of a class as this stream has defined it, and its number."""


cdef class Hessian2Writer(Hessian2Pen):
    """Writes the values of one stream, one after another.

    ``take()`` gives the bytes written so far. UsageError when a value cannot be written, nests
    deeper than ``depth_max`` or does not fit its descriptor; begin a new writer then.
    """

    def __init__(self, *, int depth_max=DEPTH):
        if not 1 <= depth_max <= 2000:
            raise UsageError(f"depth_max is 1 to 2000, not {depth_max}")
        self.start(Buffer(), depth_max)

    cdef int start(self, Buffer out, int depth_max) except -1:
        """Begin a stream at the end of ``out`` (for compiled callers)."""
        self.out = out
        self.forget()
        self.tree = False
        self.count = 0
        self.depth = 0
        self.depth_max = depth_max
        return 0

    def __dealloc__(self):
        free_table(&self.table)

    # ---- for Python callers

    def write(self, value, type=None):
        """Write ``value``, as the one JVM descriptor or Java type name ``type`` says, if given."""
        if type is None:
            self.value(value)
        else:
            self.typed(value, one_descriptor(type))

    def take(self):
        """The bytes written since the last ``take``."""
        return self.out.take()

    # ---- containers and their references, for compiled callers

    cdef int list_begin(self, Py_ssize_t length, str java_class) except -1:
        """Begin a list of ``length`` values, which follow; ``java_class`` may be None."""
        self.count += 1
        if length <= LIST_TINY_MAX:
            self.tag((TAG_LIST_TINY if java_class is None else TAG_LIST_TYPED_TINY) + length)
        else:
            self.tag(TAG_LIST if java_class is None else TAG_LIST_TYPED)
        if java_class is not None:
            self.type_name(java_class)
        return self.int32(<int32_t>length) if length > LIST_TINY_MAX else 0

    cdef int map_begin(self, str java_class) except -1:
        """Begin a map: keys and values in turn follow, then ``map_end``."""
        self.count += 1
        if java_class is None:
            return self.tag(TAG_MAP)
        self.tag(TAG_MAP_TYPED)
        return self.type_name(java_class)

    cdef int map_end(self) except -1:
        return self.tag(TAG_END)

    cdef int text_map(self, dict entries) except -1:
        """A map of strings, such as Dubbo's attachments."""
        self.map_begin(None)
        for key, value in entries.items():
            self.text(key)
            self.text(value)
        return self.map_end()

    # ---- values of any type

    cdef int enter(self) except -1:
        if self.depth >= self.depth_max:
            raise UsageError(f"a value nested deeper than {self.depth_max} cannot be written")
        self.depth += 1
        return 0

    cdef int leave(self) except -1:
        self.depth -= 1
        return 0

    cdef bint seen(self, object value) except -1:
        """Write a reference if ``value`` was there before, else remember it."""
        cdef Py_ssize_t number
        if self.tree:
            return False
        number = number_of(&self.table, value, self.count)
        if number < 0:
            return False
        self.tag(TAG_REFERENCE)
        self.int32(<int32_t>number)
        return True

    cdef int forget(self) except -1:
        """Empty the tables."""
        self.types = None
        self.classes = None
        self.latest = None
        empty_table(&self.table)
        return 0

    cdef int type_name(self, str name) except -1:
        if self.types is None:
            self.types = {}
        number = self.types.get(name)
        if number is not None:
            return self.int32(number)
        if not name:
            raise UsageError("the name of a Java class cannot be empty")
        self.types[name] = len(self.types)
        return write_text(self.out, name)

    cdef int value(self, object value) except -1:
        """Write ``value`` by its own type."""
        cdef type kind = type(value)
        if value is None:
            return self.null()
        if kind is str:
            return write_text(self.out, <str>value)
        if kind is bool:
            return self.boolean(value is True)
        if kind is int:
            return self.any_int(value)
        if kind is float:
            return self.double(value)
        if kind is list or kind is tuple:
            return self.sequence(value, None, None)
        if kind is dict:
            return self.entries(<dict>value, None)
        if kind is Bean:
            return self.bean(<dict>value, (<Bean>value).java_class)
        if kind is bytes:
            return self.binary(<const uint8_t*>PyBytes_AS_STRING(value), len(<bytes>value))
        return self.other(value)

    cdef int any_int(self, object value) except -1:
        """An int, a long or a BigInteger, whichever is the first to hold it."""
        cdef int overflow = 0
        cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return self.value(plain_bean(value))
        if -0x80000000 <= number <= 0x7FFFFFFF:
            return self.int32(<int32_t>number)
        return self.int64(number)

    cdef int other(self, object value) except -1:
        """Values of rarer types, and of subclasses; UsageError for those that have no encoding."""
        cdef bytes data
        if isinstance(value, Date):
            return self.milliseconds(value)
        if isinstance(value, Long):
            return self.int64(value)
        if isinstance(value, DATETIME) and value.utcoffset() is not None:
            return self.milliseconds((value - EPOCH) // MILLISECOND)
        if isinstance(value, TypedList):
            return self.sequence(value, value.java_class, None)
        if isinstance(value, TypedMap):
            return self.entries(<dict>value, value.java_class)
        if isinstance(value, enum.Enum):
            raise UsageError(
                f"{value!r:.200} has no Java class: give a type, or java.enum(class, name)"
            )
        if isinstance(value, BigInteger) or isinstance(value, WELL_KNOWN) or isinstance(
            value, DATETIME
        ):
            return self.value(plain_bean(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
            return self.binary(<const uint8_t*>PyBytes_AS_STRING(data), len(data))
        if isinstance(value, str):
            return write_text(self.out, str.__str__(value))
        if isinstance(value, int):
            return self.any_int(value)
        if isinstance(value, float):
            return self.double(value)
        if isinstance(value, Bean):
            return self.bean(<dict>value, (<Bean>value).java_class)
        if isinstance(value, dict):
            return self.entries(<dict>value, None)
        if isinstance(value, (list, tuple)):
            return self.sequence(value, None, None)
        if isinstance(value, (set, frozenset)):
            return self.sequence(value, "java.util.HashSet", None)
        if isinstance(value, Mapping):
            return self.entries(dict(value), None)
        raise UsageError(f"a {type(value).__name__} cannot be written as a Java value")

    cdef int sequence(self, object values, str java_class, object element) except -1:
        cdef Py_ssize_t length = len(values)
        if self.seen(values):
            return 0
        if length > 0x7FFFFFFF:
            raise UsageError("a list of 2^31 values and more cannot be written")
        self.enter()
        self.list_begin(length, java_class)
        if element is None:
            for value in values:
                self.value(value)
        else:
            for value in values:
                self.by_plan(value, element)
        return self.leave()

    cdef int entries(self, dict values, str java_class) except -1:
        if self.seen(values):
            return 0
        self.enter()
        self.map_begin(java_class)
        for key, value in values.items():
            self.value(key)
            self.value(value)
        self.map_end()
        return self.leave()

    cdef int bean(self, dict fields, str java_class) except -1:
        """An object; beans of one class with the same fields share a definition."""
        cdef Py_ssize_t number
        if self.seen(fields):
            return 0
        self.enter()
        self.count += 1
        if not java_class:
            raise UsageError("a Bean without the name of its class cannot be written")
        number = self.class_number(java_class, fields)
        if number <= OBJECT_TINY_MAX:
            self.tag(TAG_OBJECT_TINY + number)
        else:
            self.tag(TAG_OBJECT)
            self.int32(<int32_t>number)
        for value in fields.values():
            self.value(value)
        return self.leave()

    cdef Py_ssize_t class_number(self, str java_class, dict fields) except -1:
        """The number of the class with these fields, which is defined where it is new."""
        cdef ClassWritten written
        cdef PyObject* name = NULL
        cdef PyObject* value = NULL
        cdef Py_ssize_t place = 0, i = 0
        cdef tuple key
        if self.classes is None:
            self.classes = {}
            self.latest = {}
        found = self.latest.get(java_class)
        if found is not None:
            written = <ClassWritten>found
            if len(written.fields) == len(fields):
                # The names are mostly the same objects.
                while PyDict_Next(fields, &place, &name, &value):
                    if <PyObject*>written.fields[i] != name:
                        break
                    i += 1
                else:
                    return written.number
        key = (java_class, *fields)
        found = self.classes.get(key)
        if found is None:
            written = ClassWritten.__new__(ClassWritten)
            written.number = len(self.classes)
            written.fields = tuple(fields)
            self.classes[key] = written
            self.tag(TAG_CLASS)
            write_text(self.out, java_class)
            self.int32(<int32_t>len(fields))
            for field in fields:
                if not isinstance(field, str):
                    raise UsageError(f"{field!r:.200} is no field of {java_class:.200}: not text")
                write_text(self.out, str(field))
        else:
            written = <ClassWritten>found
        self.latest[java_class] = written
        return written.number

    # ---- values as a descriptor says

    cdef int typed(self, object value, str descriptor) except -1:
        """Write ``value`` as one well-formed descriptor says."""
        return self.by_plan(value, plan_of(descriptor))

    cdef int no_fit(self, object value, object plan) except -1:
        raise UsageError(f"{value!r:.200} is no {(<Plan>plan).java_class:.200}")

    cdef int by_plan(self, object value, object what) except -1:
        """Write ``value`` as a parameter's plan asks."""
        cdef Plan plan = <Plan>what
        cdef int kind = plan.kind
        if value is None:
            if not plan.nullable:
                self.no_fit(value, plan)
            return self.null()
        if kind == AS_IS:
            return self.value(value)
        if kind == INTEGER or kind == LONG:
            return self.whole(value, plan)
        if kind == TEXT:
            if not isinstance(value, str):
                self.no_fit(value, plan)
            return self.value(value)
        if kind == BOOLEAN:
            if not isinstance(value, bool):
                self.no_fit(value, plan)
            return self.boolean(value)
        if kind == DOUBLE:
            return self.real(value, plan)
        if kind == CHARACTER:
            if not isinstance(value, str) or len(value) != 1 or ord(value) > 0xFFFF:
                self.no_fit(value, plan)
            return self.value(value)
        if isinstance(value, Bean):
            # It knows its class better than the parameter does, which may be an interface.
            return self.value(value)
        if kind == CONVERTED:
            return self.value(plan.convert(value))
        if kind == NUMBER:
            if not is_java_number(value):
                self.no_fit(value, plan)
            return self.value(value)
        if kind == OBJECT:
            return self.named(value, plan)
        return self.many(value, plan)

    cdef int whole(self, object value, Plan plan) except -1:
        """An int or a long within the bounds of the parameter's type."""
        if not isinstance(value, int) or isinstance(value, bool):
            if not (isinstance(value, float) and value.is_integer()):
                self.no_fit(value, plan)
            value = int(value)
        if not plan.least <= value <= plan.most:
            self.no_fit(value, plan)
        return self.int32(value) if plan.kind == INTEGER else self.int64(value)

    cdef int real(self, object value, Plan plan) except -1:
        """A double of any number that is not too large for one."""
        if not is_java_number(value):
            self.no_fit(value, plan)
        try:
            number = float(value)
        except OverflowError:
            self.no_fit(value, plan)
        return self.double(number)

    cdef int many(self, object value, Plan plan) except -1:
        """An array, a collection or a map."""
        cdef int kind = plan.kind
        if kind == BYTES:
            return self.byte_array(value, plan)
        if kind == CHARACTERS:
            if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
                value = "".join(value)
            if not isinstance(value, str):
                self.no_fit(value, plan)
            return self.value(value)
        if kind == MAP:
            if isinstance(value, TypedMap):
                return self.value(value)
            if not isinstance(value, Mapping):
                self.no_fit(value, plan)
            return self.entries(
                <dict>value if isinstance(value, dict) else dict(value), plan.wire_class
            )
        if isinstance(value, TypedList):
            return self.value(value)
        if not isinstance(value, (list, tuple)) and (
            kind == ARRAY or not isinstance(value, (set, frozenset))
        ):
            self.no_fit(value, plan)
        return self.sequence(value, plan.wire_class, plan.element)

    cdef int byte_array(self, object value, Plan plan) except -1:
        """Bytes, or numbers that are bytes, with or without a sign."""
        cdef bytes data
        if isinstance(value, (list, tuple)):
            try:
                data = bytes([part & 255 for part in value if -128 <= part < 256])
            except TypeError:
                self.no_fit(value, plan)
            if len(data) != len(value):
                self.no_fit(value, plan)
            return self.value(data)
        if not isinstance(value, (bytes, bytearray, memoryview)):
            self.no_fit(value, plan)
        return self.value(value)

    cdef int named(self, object value, Plan plan) except -1:
        """An object or an enum's constant of a class that only the callee knows."""
        if isinstance(value, dict) and not isinstance(value, TypedMap):
            return self.bean(<dict>value, plan.java_class)
        if isinstance(value, enum.Enum):
            return self.value(Bean(plan.java_class, name=value.name))
        if isinstance(value, str):
            return self.value(Bean(plan.java_class, name=str(value)))
        if isinstance(value, Mapping):
            return self.bean(dict(value), plan.java_class)
        return self.value(value)


cdef bint is_java_number(object value):
    return isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool)


# A writer that ``encode`` has done with, and will use again.
cdef Hessian2Writer spare = None


def encode(*values, types=None, int depth_max=DEPTH, bint tree=False):
    """The values as one stream.

    ``types`` is a JVM descriptor of all of them, such as ``Ljava/lang/String;J``, or a list with a
    descriptor or Java type name for each. ``tree``: no container comes twice in them, so there is
    nothing to refer to and nothing to remember.
    """
    global spare
    cdef Hessian2Writer writer = spare
    cdef list parts
    cdef bytes result
    if writer is None or depth_max != writer.depth_max:
        writer = Hessian2Writer(depth_max=depth_max)
    else:
        # Taken away while it is in use: values may call back, and other threads come.
        spare = None
    writer.tree = tree
    if types is None:
        for value in values:
            writer.value(value)
    else:
        if isinstance(types, str):
            count_parameters(types.encode("utf-8", "replace"))
            parts = split_descriptor(types)
        else:
            parts = [one_descriptor(name) for name in types]
        if len(parts) != len(values):
            raise UsageError(f"{len(values)} values for {len(parts)} types")
        for value, part in zip(values, parts):
            writer.typed(value, part)
    result = writer.out.take()
    writer.start(writer.out, depth_max)
    spare = writer
    return result
