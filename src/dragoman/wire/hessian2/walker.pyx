"""Passes over the values of a hessian2 stream, and numbers its references, classes and types.

``hessian2.scanner`` is built on this: one stream is walked through by transcoding some values and
skipping others, and all are numbered alike. The invariants: no byte beyond the end is looked at;
depth and containers are bounded; nothing is allocated by what is claimed.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.fold cimport AS_VALUE, PLAIN, fold_of
from dragoman.wire.hessian2.heads cimport CUT_SHORT, NO_SUCH, binary_head, read_number
from dragoman.wire.hessian2.json_string cimport write_json_units
from dragoman.wire.hessian2.string cimport StringShape, one_chunk, string_shape
from dragoman.wire.hessian2.tags cimport (
    LIST_TINY_MASK, TAG_BINARY_CHUNK, TAG_CLASS, TAG_END, TAG_FALSE, TAG_LIST, TAG_LIST_TYPED,
    TAG_LIST_TYPED_TINY, TAG_MAP_TYPED, TAG_NULL, TAG_OBJECT, TAG_OBJECT_TINY, TAG_REFERENCE,
    TAG_TRUE, date_bytes, double_bytes, is_binary, is_date, is_double, is_list,
    is_map, is_number, is_object, is_string, is_typed_list,
)
from dragoman.wire.json.numbers cimport put_byte
from dragoman.wire.json.string cimport JSON_OK, write_json_string

from dragoman.errors import LimitError, ProtocolError

cdef enum:
    NAMES_BYTES_MAX = 0x40000000
    HIDING_FIELDS_MAX = 256  # a class of more fields is not searched for two of one name


cdef class Hessian2Walker:
    """One stream: where it is, and its tables. Whoever builds on it makes the buffers."""

    cdef int start(self, object owner, const uint8_t* data, Py_ssize_t n) except -1:
        """Begin a stream with ``data[:n]``, which ``owner`` keeps alive."""
        self.owner = owner
        self.data = data
        self.n = n
        self.at = 0
        self.json.clear()
        self.names.clear()
        self.classes.clear()
        self.fields.clear()
        self.references.clear()
        self.class_count = 0
        self.type_count = 0
        self.reference_count = 0
        self.containers_left = self.containers_max
        return 0

    cdef int32_t int32(self) except? -1:
        """The next value, which must be an int (or a long in its range)."""
        cdef Py_ssize_t at = self.at
        cdef int64_t number = self.next_number("a value")
        if not -0x80000000 <= number <= 0x7FFFFFFF:
            self.bad("a number beyond an int", at)
        return <int32_t>number

    cdef int text(self, Buffer out) except -1:
        """Append the next value, which must be a string, to ``out`` as a JSON string; 1 for null.
        """
        cdef uint8_t tag
        if self.at >= self.n:
            self.cut("a value")
        tag = self.data[self.at]
        if tag == TAG_NULL:
            self.at += 1
            return 1
        if not is_string(tag):
            self.bad(f"no string but a value that begins with 0x{tag:02x}", self.at)
        self.put_text(out)
        return 0

    cdef int skip(self) except -1:
        """Pass over the next value. What refers to it later cannot be transcoded."""
        self.pass_value(0)
        return 0

    # ---- errors

    cdef object bad(self, str what, Py_ssize_t at):
        raise ProtocolError(f"hessian2: {what} at byte {at}")

    cdef object cut(self, str what):
        raise ProtocolError(f"hessian2: {what} is cut short at byte {self.n}")

    # ---- pieces

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

    cdef int64_t next_number(self, str what) except? -1:
        """The next value, which must be an int or a long; ``what`` is cut short without it."""
        if self.at >= self.n:
            self.cut(what)
        self.at += 1
        return self.number(self.data[self.at - 1])

    cdef int put_text(self, Buffer out) except -1:
        """The string at ``at`` as a JSON string; only passed over if ``out`` is None."""
        cdef StringShape shape
        cdef const uint8_t* p = self.data
        cdef Py_ssize_t at, units = 0
        if out is not None:
            at = one_chunk(p, self.n, self.at, &units)
            if at >= 0 and write_json_string(out, <const char*>p + at, units) == JSON_OK:
                self.at = at + units
                return 0
        if string_shape(p, self.n, self.at, &shape):
            if shape.end >= self.n:
                self.cut("a string")
            self.bad("a string's text or chunk is malformed", shape.end)
        self.at = shape.end
        if out is None:
            return 0
        return write_json_units(out, p, &shape)

    cdef Py_ssize_t pass_binary(self) except -1:
        """Pass over the binary value at ``at``; how many bytes it holds."""
        cdef Py_ssize_t at = self.at, total = 0, size = 0
        cdef int head
        cdef bint last = False
        while not last:
            head = binary_head(self.data + at, self.n - at, &size)
            if head == NO_SUCH:
                self.bad(f"no chunk of a binary value begins with 0x{self.data[at]:02x}", at)
            if head == CUT_SHORT:
                self.cut("a binary value")
            last = self.data[at] != TAG_BINARY_CHUNK
            at += head + size
            total += size
        self.at = at
        return total

    cdef int pass_type(self) except -1:
        """The type of a list or a map."""
        cdef Py_ssize_t at = self.at
        cdef int64_t index
        if at < self.n and is_string(self.data[at]):
            self.type_count += 1
            return self.put_text(None)
        index = self.next_number("a type")
        if not 0 <= index < self.type_count:
            self.bad(f"type {index} of {self.type_count}", at)
        return 0

    cdef int64_t list_head(self, uint8_t tag) except -2:
        """Pass the type of the list that ``tag`` began, and give its length; -1: up to its end."""
        cdef Py_ssize_t at
        cdef int64_t count
        if is_typed_list(tag):
            self.pass_type()
        if tag >= TAG_LIST_TYPED_TINY:
            return tag & LIST_TINY_MASK
        if tag != TAG_LIST_TYPED and tag != TAG_LIST:
            return -1
        at = self.at
        count = self.next_number("a list")
        if not 0 <= count <= 0x7FFFFFFF:
            self.bad(f"a list of {count} values", at)
        return count

    cdef bint ends(self, str what) except -1:
        """Whether a list or a map ends here; its end is taken."""
        if self.at >= self.n:
            self.cut(what)
        if self.data[self.at] != TAG_END:
            return False
        self.at += 1
        return True

    cdef Py_ssize_t class_number(self, uint8_t tag, Py_ssize_t at) except -1:
        """Which class the object is of that ``tag`` began at ``at``."""
        cdef int64_t number
        if tag == TAG_OBJECT:
            number = self.next_number("an object")
        else:
            number = tag - TAG_OBJECT_TINY
        if not 0 <= number < self.class_count:
            self.bad(f"class {number} of {self.class_count}", at)
        return number

    cdef int64_t referred(self) except -1:
        """The number of a reference whose first byte has been taken."""
        cdef Py_ssize_t at = self.at - 1
        cdef int64_t number = self.next_number("a reference")
        if not 0 <= number < self.reference_count:
            self.bad(f"reference {number} of {self.reference_count}", at)
        return number

    cdef Py_ssize_t enter(self, Py_ssize_t at) except -1:
        """Count a container, and give it its place among the references."""
        cdef Reference* reference
        if self.containers_left <= 0:
            raise LimitError(
                f"hessian2: more than {self.containers_max} lists, maps and objects at byte {at}"
            )
        self.containers_left -= 1
        reference = <Reference*>self.references.reserve(sizeof(Reference))
        reference.start = self.json.length
        reference.end = OPEN
        reference.height = 0
        reference.aside = False
        self.references.length += sizeof(Reference)
        self.reference_count += 1
        return self.reference_count - 1

    cdef uint8_t definitions(self) except? 255:
        """Definitions of classes, of which the first byte has been taken; the tag of the value
        behind them, which has not.
        """
        while True:
            self.define()
            if self.at >= self.n:
                self.cut("a value")
            if self.data[self.at] != TAG_CLASS:
                return self.data[self.at]
            self.at += 1

    cdef int define(self) except -1:
        """A class definition whose first byte has been taken."""
        cdef Py_ssize_t at = self.at, length
        cdef int64_t count
        cdef ClassInfo made
        cdef tuple roles = ()
        cdef const char* text
        made.kind = PLAIN
        made.cause = -1
        made.name = self.names.length
        if self.text(self.names):
            self.bad("a class without a name", at)
        made.name_length = self.names.length - made.name
        text = self.names.data + made.name + 1
        length = made.name_length - 2
        if length == 0:
            self.bad("a class without a name", at)
        if length > 5 and (memcmp(text, b"java.", 5) == 0 or memcmp(text, b"com.a", 5) == 0):
            found = fold_of(text[:length])
            if found is not None:
                made.kind = found[0]
                roles = found[1]
        at = self.at
        count = self.next_number("a class definition")
        if not 0 <= count <= self.n - self.at:
            self.bad(f"a class of {count} fields in {self.n - self.at} bytes", at)
        made.first = <Py_ssize_t>(self.fields.length // sizeof(FieldInfo))
        made.count = count
        self.define_fields(&made, roles)
        (<ClassInfo*>self.classes.reserve(sizeof(ClassInfo)))[0] = made
        self.classes.length += sizeof(ClassInfo)
        self.class_count += 1
        return 0

    cdef int define_fields(self, ClassInfo* made, tuple roles) except -1:
        """The fields of the class ``made``, of which ``roles`` are folded."""
        cdef Py_ssize_t at, length, i
        cdef FieldInfo* field
        cdef uint64_t letters = 0, letter
        cdef bytes name
        cdef const char* text
        for i in range(made.count):
            field = <FieldInfo*>self.fields.reserve(sizeof(FieldInfo))
            self.fields.length += sizeof(FieldInfo)
            if self.names.length > NAMES_BYTES_MAX:
                raise LimitError(
                    f"hessian2: more than {NAMES_BYTES_MAX} bytes of names at byte {self.at}"
                )
            field.name = <uint32_t>self.names.length
            field.role = -1
            field.hidden = False
            at = self.at
            if self.text(self.names):
                self.bad("a field without a name", at)
            put_byte(self.names, c':')
            field.name_length = <uint32_t>(self.names.length - field.name)
            text = self.names.data + field.name + 1
            length = field.name_length - 3
            # Almost never are there two of one name: look only where they might be.
            letter = 1ULL << ((length * 7 + <uint8_t>text[0] + 3 * <uint8_t>text[length - 1]) & 63)
            if letters & letter and i < HIDING_FIELDS_MAX:
                self.hide(made.first, i)
            letters |= letter
            if roles:
                name = text[:length]
                if name in roles:
                    field.role = roles.index(name)
            elif length == 5 and memcmp(text, b"cause", 5) == 0:
                made.cause = <int>i
            elif made.count == 1 and length == 4 and memcmp(text, b"name", 4) == 0:
                name = (self.names.data + made.name + 1)[:made.name_length - 2]
                if self.enums is None or name == b"java.lang.Class" or name in self.enums:
                    made.kind = AS_VALUE
                    field.role = 0
        return 0

    cdef int hide(self, Py_ssize_t first, Py_ssize_t last) except -1:
        """Mark the fields from ``first`` on that have the name of the one ``last`` after it.

        A subclass may have a field of the same name; Java's reader, too, takes the last.
        """
        cdef FieldInfo* fields = (<FieldInfo*>self.fields.data) + first
        cdef Py_ssize_t i
        for i in range(last):
            if fields[i].name_length == fields[last].name_length and memcmp(
                self.names.data + fields[i].name, self.names.data + fields[last].name,
                fields[i].name_length
            ) == 0:
                fields[i].hidden = True
        return 0

    # ---- past values

    cdef int pass_value(self, int depth) except -1:
        """Pass over the next value, which leaves nothing but its entries in the tables."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag
        if at >= self.n:
            self.cut("a value")
        tag = self.data[at]
        if is_string(tag):
            return self.put_text(None)
        self.at = at + 1
        if is_number(tag):
            self.number(tag)
        elif tag == TAG_NULL or tag == TAG_TRUE or tag == TAG_FALSE:
            pass
        elif is_binary(tag):
            self.at = at
            self.pass_binary()
        elif is_double(tag):
            self.pass_bytes(double_bytes(tag))
        elif is_date(tag):
            self.pass_bytes(date_bytes(tag))
        elif tag == TAG_REFERENCE:
            self.referred()
        else:
            self.pass_nested(tag, depth)
        return 0

    cdef int pass_bytes(self, int count) except -1:
        if self.n - self.at < count:
            self.cut("a value")
        self.at += count
        return 0

    cdef int pass_nested(self, uint8_t tag, int depth) except -1:
        """A list, map or object that ``tag`` began, behind definitions or not."""
        cdef Py_ssize_t at = self.at - 1
        if depth >= self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        if tag == TAG_CLASS:
            tag = self.definitions()
            if not is_object(tag):
                return self.pass_value(depth + 1)
            at = self.at
            self.at += 1
        if is_object(tag):
            return self.pass_object(tag, at, depth + 1)
        if is_map(tag):
            return self.pass_map(tag, at, depth + 1)
        if is_list(tag):
            return self.pass_list(tag, at, depth + 1)
        self.bad(f"no value begins with 0x{tag:02x}", at)

    cdef int enter_skipped(self, Py_ssize_t at) except -1:
        """Count a container that leaves no JSON."""
        cdef Py_ssize_t own = self.enter(at)
        (<Reference*>self.references.data)[own].end = SKIPPED
        return 0

    cdef int pass_object(self, uint8_t tag, Py_ssize_t at, int depth) except -1:
        cdef Py_ssize_t number = self.class_number(tag, at), i
        self.enter_skipped(at)
        for i in range((<ClassInfo*>self.classes.data)[number].count):
            self.pass_value(depth)
        return 0

    cdef int pass_map(self, uint8_t tag, Py_ssize_t at, int depth) except -1:
        self.enter_skipped(at)
        if tag == TAG_MAP_TYPED:
            self.pass_type()
        while not self.ends("a map"):
            self.pass_value(depth)
            self.pass_value(depth)
        return 0

    cdef int pass_list(self, uint8_t tag, Py_ssize_t at, int depth) except -1:
        cdef int64_t count, i = 0
        self.enter_skipped(at)
        count = self.list_head(tag)
        while i != count and not (count < 0 and self.ends("a list")):
            self.pass_value(depth)
            i += 1
        return 0
