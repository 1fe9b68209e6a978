"""Past the values of a hessian2 stream, and what its references, classes and types stand for.

``hessian2.scanner`` is built on this: one stream is walked through by transcoding some values and
skipping others, and all are numbered alike. The invariants: no byte beyond the end is looked at;
depth and containers are bounded; nothing is allocated by what is claimed.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.fold cimport AS_VALUE, PLAIN, fold_of
from dragoman.wire.hessian2.string cimport (
    StringShape, one_chunk, string_shape, utf8_point,
)
from dragoman.wire.json.numbers cimport put_byte, put_point
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
        cdef int64_t number
        if at >= self.n:
            self.cut("a value")
        self.at += 1
        number = self.number(self.data[at])
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
        if tag == 78:
            self.at += 1
            return 1
        if not (tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53):
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
        cdef const uint8_t* p = self.data + self.at
        cdef Py_ssize_t left = self.n - self.at
        cdef int size = -1
        cdef int64_t result = 0
        if 0x80 <= tag <= 0xBF:
            return <int64_t>tag - 0x90
        if 0xD8 <= tag <= 0xEF:
            return <int64_t>tag - 0xE0
        if 0xC0 <= tag <= 0xCF or tag >= 0xF0:
            size = 1
            if left >= 1:
                result = (<int64_t>tag - (0xC8 if tag < 0xF0 else 0xF8)) * 256 + p[0]
        elif 0xD0 <= tag <= 0xD7 or 0x38 <= tag <= 0x3F:
            size = 2
            if left >= 2:
                result = (
                    (<int64_t>tag - (0xD4 if tag >= 0xD0 else 0x3C)) * 65536 + (p[0] << 8) + p[1]
                )
        elif tag == 73 or tag == 0x59:
            size = 4
            if left >= 4:
                result = <int32_t>read32(p)
        elif tag == 76:
            size = 8
            if left >= 8:
                result = <int64_t>read64(p)
        else:
            self.bad(f"no int but a value that begins with 0x{tag:02x}", self.at - 1)
        if left < size:
            self.cut("a number")
        self.at += size
        return result

    cdef int put_text(self, Buffer out) except -1:
        """The string at ``at`` as a JSON string; only passed over if ``out`` is None."""
        cdef StringShape shape
        cdef const uint8_t* p = self.data
        cdef Py_ssize_t at, units = 0
        cdef uint32_t point = 0, high = 0
        cdef bint last
        cdef int size
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
        put_byte(out, 34)
        at = shape.start
        while True:
            last = p[at] != 0x52
            if p[at] < 0x20:
                units = p[at]
                at += 1
            elif p[at] < 0x34:
                units = ((p[at] - 0x30) << 8) | p[at + 1]
                at += 2
            else:
                units = (p[at + 1] << 8) | p[at + 2]
                at += 3
            while units > 0:
                size = utf8_point(p + at, shape.end - at, &point)
                at += size
                units -= 2 if size == 4 else 1
                if high:
                    if 0xDC00 <= point <= 0xDFFF:
                        put_point(out, 0x10000 + ((high - 0xD800) << 10) + (point - 0xDC00))
                        high = 0
                        continue
                    put_point(out, high)
                    high = 0
                if 0xD800 <= point <= 0xDBFF:
                    high = point
                else:
                    put_point(out, point)
            if last:
                break
        if high:
            put_point(out, high)
        return put_byte(out, 34)

    cdef Py_ssize_t pass_binary(self) except -1:
        """Pass over the binary value at ``at``; how many bytes it holds."""
        cdef const uint8_t* p = self.data
        cdef Py_ssize_t at = self.at, total = 0, size, head
        cdef bint last = False
        while not last:
            if at >= self.n:
                self.cut("a binary value")
            last = p[at] != 0x41
            if 0x20 <= p[at] < 0x30:
                head = 1
                size = p[at] - 0x20
            elif 0x34 <= p[at] < 0x38:
                head = 2
                size = ((p[at] - 0x34) << 8) + p[at + 1] if self.n - at > 1 else 0
            elif p[at] == 0x41 or p[at] == 0x42:
                head = 3
                size = (p[at + 1] << 8) + p[at + 2] if self.n - at > 2 else 0
            else:
                self.bad(f"no chunk of a binary value begins with 0x{p[at]:02x}", at)
            if self.n - at < head + size:
                self.cut("a binary value")
            at += head + size
            total += size
        self.at = at
        return total

    cdef int pass_type(self) except -1:
        """The type of a list or a map."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag
        cdef int64_t index
        if at >= self.n:
            self.cut("a type")
        tag = self.data[at]
        if tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53:
            self.type_count += 1
            return self.put_text(None)
        self.at += 1
        index = self.number(tag)
        if not 0 <= index < self.type_count:
            self.bad(f"type {index} of {self.type_count}", at)
        return 0

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

    cdef int define(self) except -1:
        """A class definition whose first byte has been taken."""
        cdef Py_ssize_t at = self.at, length
        cdef int64_t count, i
        cdef ClassInfo* known
        cdef ClassInfo made
        cdef FieldInfo* field
        cdef tuple roles = ()
        cdef uint64_t letters = 0, letter
        cdef bytes name = None
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
        if at >= self.n:
            self.cut("a class definition")
        self.at += 1
        count = self.number(self.data[at])
        if not 0 <= count <= self.n - self.at:
            self.bad(f"a class of {count} fields in {self.n - self.at} bytes", at)
        made.first = <Py_ssize_t>(self.fields.length // sizeof(FieldInfo))
        made.count = count
        for i in range(count):
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
            put_byte(self.names, 58)
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
            elif count == 1 and length == 4 and memcmp(text, b"name", 4) == 0:
                name = (self.names.data + made.name + 1)[:made.name_length - 2]
                if self.enums is None or name == b"java.lang.Class" or name in self.enums:
                    made.kind = AS_VALUE
                    field.role = 0
        known = <ClassInfo*>self.classes.reserve(sizeof(ClassInfo))
        known[0] = made
        self.classes.length += sizeof(ClassInfo)
        self.class_count += 1
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
        """The next value leaves nothing but its entries in the tables."""
        cdef Py_ssize_t at = self.at, own
        cdef uint8_t tag
        cdef int64_t count, index, i
        cdef int size
        if at >= self.n:
            self.cut("a value")
        tag = self.data[at]
        if tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53:
            return self.put_text(None)
        self.at = at + 1
        if tag >= 0x80 or tag == 73 or tag == 76 or tag == 0x59 or 0x38 <= tag < 0x40:
            self.number(tag)
            return 0
        if tag == 78 or tag == 84 or tag == 70:
            return 0
        if tag < 0x30 or 0x34 <= tag < 0x38 or tag == 0x41 or tag == 0x42:
            self.at = at
            self.pass_binary()
            return 0
        if 0x5B <= tag <= 0x5F or tag == 68 or tag == 0x4A or tag == 0x4B:
            size = 0
            if tag == 68 or tag == 0x4A:
                size = 8
            elif tag == 0x4B or tag == 0x5F:
                size = 4
            elif tag >= 0x5D:
                size = tag - 0x5C
            if self.n - self.at < size:
                self.cut("a value")
            self.at += size
            return 0
        if tag == 0x51:
            if self.at >= self.n:
                self.cut("a reference")
            self.at += 1
            index = self.number(self.data[at + 1])
            if not 0 <= index < self.reference_count:
                self.bad(f"reference {index} of {self.reference_count}", at)
            return 0
        if depth >= self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        while tag == 67:
            self.define()
            at = self.at
            if at >= self.n:
                self.cut("a value")
            tag = self.data[at]
            if not (tag == 67 or 0x60 <= tag < 0x70 or tag == 79):
                return self.pass_value(depth + 1)
            self.at = at + 1
        if 0x60 <= tag < 0x70 or tag == 79:
            index = tag - 0x60
            if tag == 79:
                if self.at >= self.n:
                    self.cut("an object")
                self.at += 1
                index = self.number(self.data[self.at - 1])
            if not 0 <= index < self.class_count:
                self.bad(f"class {index} of {self.class_count}", at)
            own = self.enter(at)
            (<Reference*>self.references.data)[own].end = SKIPPED
            count = (<ClassInfo*>self.classes.data)[index].count
            for i in range(count):
                self.pass_value(depth + 1)
            return 0
        if tag == 72 or tag == 77:
            own = self.enter(at)
            (<Reference*>self.references.data)[own].end = SKIPPED
            if tag == 77:
                self.pass_type()
            while True:
                if self.at >= self.n:
                    self.cut("a map")
                if self.data[self.at] == 90:
                    self.at += 1
                    return 0
                self.pass_value(depth + 1)
                self.pass_value(depth + 1)
        if not (0x70 <= tag or 0x55 <= tag <= 0x58):
            self.bad(f"no value begins with 0x{tag:02x}", at)
        own = self.enter(at)
        (<Reference*>self.references.data)[own].end = SKIPPED
        if tag == 0x55 or tag == 0x56 or 0x70 <= tag < 0x78:
            self.pass_type()
        count = -1
        if tag >= 0x70:
            count = tag & 7
        elif tag == 0x56 or tag == 0x58:
            at = self.at
            if at >= self.n:
                self.cut("a list")
            self.at += 1
            count = self.number(self.data[at])
            if not 0 <= count <= 0x7FFFFFFF:
                self.bad(f"a list of {count} values", at)
        i = 0
        while i != count:
            if count < 0:
                if self.at >= self.n:
                    self.cut("a list")
                if self.data[self.at] == 90:
                    self.at += 1
                    return 0
            self.pass_value(depth + 1)
            i += 1
        return 0
