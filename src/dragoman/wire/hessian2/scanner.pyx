"""hessian2 to JSON text, and past values, without making Python objects of them.

The agents answer HTTP with it and find where arguments end. A scanner is one stream, as a reader
is: references, classes and types are numbered through all its values, be they transcoded or
skipped.

| hessian2 | JSON |
| --- | --- |
| null, boolean, int, long, string | the same; half of a surrogate pair as ``\\ud83d`` |
| double | a number; ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` |
| date, java.sql.* | text in UTC with milliseconds: ``"2026-01-31T12:00:00.000Z"`` |
| binary | base64 |
| list | array |
| map | object; keys that are no text become it, containers as their JSON |
| object | object; ``class`` first when asked for |
| BigDecimal, BigInteger | a number with all its digits, at most 1,024 |
| enum (an object whose only field is ``name``), Class | its name |
| UUID, Locale, java.time | text in the usual form (ISO 8601) |
| reference | what it refers to, once more |

A throwable's ``cause`` that is itself (Java's way to say that there is none) is null; any other
cycle is refused. The invariants: the JSON is well formed and valid UTF-8; depth, containers and the
length of the JSON are bounded, references counted in; nothing is allocated by what is claimed, so
that memory beside the JSON is at most 64 bytes for each byte of input.

The table of references has for each the place of its JSON, so to write a value once more is one
copy. What is rewritten later (the parts of a date, a container that is a key) is copied aside
first.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite, isnan
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.fold cimport (
    AS_NUMBER, AS_PART, AS_VALUE, BY_NAME, LOST, PLAIN, ROLES, fold_time,
)
from dragoman.wire.hessian2.walker cimport (
    OPEN, SKIPPED, ClassInfo, FieldInfo, Hessian2Walker, Reference, read32, read64,
)
from dragoman.wire.json.numbers cimport (
    is_number, put, put_byte, put_int, put_moment, put_thousandths,
)
from dragoman.wire.json.string cimport write_json_string
from dragoman.wire.json.text cimport JSON_DEPTH_MAX, JSON_NUMBER_BYTES_MAX

from dragoman.errors import LimitError, UsageError
from dragoman.wire.java.jdk import json_text, lost_elements
from dragoman.wire.hessian2.reader import CONTAINERS_MAX

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char code, int precision, int flags, int* type)
    int Py_DTSF_ADD_DOT_0

cdef enum:
    JSON_BYTES = 64 * 1024 * 1024

JSON_BYTES_MAX = JSON_BYTES
cdef Py_ssize_t CONTAINERS = CONTAINERS_MAX

cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


cdef class Hessian2Scanner(Hessian2Walker):
    """Turns the values of one stream into JSON, or skips them, one after another.

    ``data`` is kept until the scanner goes or starts again. Beans have a member ``class`` first
    if ``with_class``. ``enums`` are the names of the classes that are enums, if they are known;
    else every class whose only field is ``name`` is taken for one: the bytes do not tell.
    ProtocolError with the place where something is wrong, LimitError for what JSON cannot say: a
    value that contains itself, a number that is too long, what is beyond ``depth_max``,
    ``containers_max`` or ``json_bytes_max``; afterwards the scanner has to start again.
    """

    def __init__(
        self, data=b"", *, bint with_class=False, enums=None, int depth_max=JSON_DEPTH_MAX,
        Py_ssize_t containers_max=CONTAINERS, Py_ssize_t json_bytes_max=JSON_BYTES
    ):
        cdef bytes kept = data if isinstance(data, bytes) else bytes(memoryview(data))
        if not 1 <= depth_max <= 2000:
            raise UsageError(f"depth_max is 1 to 2000, not {depth_max}")
        if containers_max < 0 or json_bytes_max < 0:
            raise UsageError("containers_max and json_bytes_max are no less than 0")
        self.with_class = with_class
        self.enums = None if enums is None else frozenset(
            [name.encode("utf-8", "surrogatepass") for name in enums]
        )
        self.depth_max = depth_max
        self.containers_max = containers_max
        self.json_bytes_max = json_bytes_max
        self.json = Buffer()
        self.aside = Buffer()
        self.names = Buffer()
        self.classes = Buffer()
        self.fields = Buffer()
        self.references = Buffer()
        self.start(kept, <const uint8_t*>PyBytes_AS_STRING(kept), PyBytes_GET_SIZE(kept))

    cdef int start(self, object owner, const uint8_t* data, Py_ssize_t n) except -1:
        self.aside.clear()
        return Hessian2Walker.start(self, owner, data, n)

    # ---- for Python callers

    def read_json(self):
        """The JSON text of the next value, UTF-8."""
        cdef Py_ssize_t length = 0
        cdef const char* text = self.value(&length)
        return text[:length]

    def skip_value(self):
        """Pass over the next value."""
        self.skip()

    @property
    def at_end(self):
        """Whether all has been read."""
        return self.at >= self.n

    # ---- for compiled callers

    cdef const char* value(self, Py_ssize_t* length) except NULL:
        """The JSON of the next value, and its length; it lasts until the next call."""
        cdef Py_ssize_t start = self.json.length
        self.any(0)
        length[0] = self.json.length - start
        return self.json.data + start

    cdef int put_double(self, uint8_t tag) except -1:
        """The double that begins with ``tag``, which has been taken."""
        cdef const uint8_t* p = self.data + self.at
        cdef int size = (
            0 if tag <= 0x5C else 1 if tag == 0x5D else 2 if tag == 0x5E else 4 if tag == 0x5F
            else 8
        )
        cdef double number
        cdef int64_t thousandths
        cdef uint64_t bits
        cdef char* text
        if tag == 68:
            size = 8
        if self.n - self.at < size:
            self.cut("a double")
        self.at += size
        if size == 0:
            return put(self.json, b"1.0" if tag == 0x5C else b"0.0")
        if size == 1 or size == 2:
            put_int(
                self.json,
                <int8_t>p[0] if size == 1 else <int16_t>((<uint16_t>p[0] << 8) | p[1])
            )
            return put(self.json, b".0")
        if size == 4:
            thousandths = <int32_t>read32(p)
            number = 0.001 * <double>thousandths
            if number == <double>thousandths / 1000.0:
                # Of at most 15 digits, so the decimal fraction is the shortest text for it.
                return put_thousandths(self.json, thousandths)
        else:
            bits = read64(p)
            memcpy(&number, &bits, 8)
        if not isfinite(number):
            return put(
                self.json,
                b'"NaN"' if isnan(number) else b'"Infinity"' if number > 0 else b'"-Infinity"'
            )
        text = PyOS_double_to_string(number, 114, 0, Py_DTSF_ADD_DOT_0, NULL)
        if text == NULL:
            raise MemoryError("no memory for the text of a double")
        try:
            return put(self.json, text)
        finally:
            PyMem_Free(text)

    cdef int put_binary(self) except -1:
        """The binary value at ``at`` in base64."""
        cdef const uint8_t* p = self.data
        cdef Py_ssize_t at = self.at, size, i, total = self.pass_binary()
        cdef uint8_t* to = <uint8_t*>self.json.reserve((total + 2) // 3 * 4 + 2)
        cdef uint32_t gathered = 0
        cdef int held = 0
        cdef bint last = False
        to[0] = 34
        to += 1
        while not last:
            last = p[at] != 0x41
            if 0x20 <= p[at] < 0x30:
                size = p[at] - 0x20
                at += 1
            elif 0x34 <= p[at] < 0x38:
                size = ((p[at] - 0x34) << 8) + p[at + 1]
                at += 2
            else:
                size = (p[at + 1] << 8) + p[at + 2]
                at += 3
            for i in range(size):
                gathered = (gathered << 8) | p[at + i]
                held += 1
                if held == 3:
                    to[0] = BASE64[(gathered >> 18) & 63]
                    to[1] = BASE64[(gathered >> 12) & 63]
                    to[2] = BASE64[(gathered >> 6) & 63]
                    to[3] = BASE64[gathered & 63]
                    to += 4
                    held = 0
            at += size
        if held:
            gathered <<= 8 * (3 - held)
            to[0] = BASE64[(gathered >> 18) & 63]
            to[1] = BASE64[(gathered >> 12) & 63]
            to[2] = BASE64[(gathered >> 6) & 63] if held == 2 else 61
            to[3] = 61
            to += 4
        to[0] = 34
        self.json.length = (to + 1) - <uint8_t*>self.json.data
        return 0

    cdef object too_much(self):
        raise LimitError(
            f"hessian2: more than {self.json_bytes_max} bytes of JSON at byte {self.at}"
        )

    # ---- to JSON; each returns how high the value is, 0 for what does not nest

    cdef int any(self, int depth) except -1:
        """The next value."""
        cdef Py_ssize_t at = self.at
        cdef const uint8_t* p = self.data + at
        cdef uint8_t tag
        if at >= self.n:
            self.cut("a value")
        if <Py_ssize_t>(self.json.length + self.aside.length) > self.json_bytes_max:
            self.too_much()
        tag = p[0]
        if tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53:
            self.put_text(self.json)
            return 0
        self.at = at + 1
        if tag >= 0x80 or tag == 73 or tag == 76 or tag == 0x59 or 0x38 <= tag < 0x40:
            put_int(self.json, self.number(tag))
            return 0
        if tag == 78:
            return put(self.json, b"null")
        if tag == 84:
            return put(self.json, b"true")
        if tag == 70:
            return put(self.json, b"false")
        if 0x5B <= tag <= 0x5F or tag == 68:
            return self.put_double(tag)
        if tag < 0x30 or 0x34 <= tag < 0x38 or tag == 0x41 or tag == 0x42:
            self.at = at
            return self.put_binary()
        if tag == 0x4A:
            if self.n - at < 9:
                self.cut("a date")
            self.at = at + 9
            return put_moment(self.json, <int64_t>read64(p + 1))
        if tag == 0x4B:
            if self.n - at < 5:
                self.cut("a date")
            self.at = at + 5
            return put_moment(self.json, <int64_t>(<int32_t>read32(p + 1)) * 60000)
        if tag == 0x51:
            return self.put_reference(depth)
        if depth >= self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        while tag == 67:
            self.define()
            at = self.at
            if at >= self.n:
                self.cut("a value")
            tag = self.data[at]
            if not (tag == 67 or 0x60 <= tag < 0x70 or tag == 79):
                return self.any(depth + 1)
            self.at = at + 1
        if 0x60 <= tag < 0x70:
            return self.put_object(tag - 0x60, at, depth + 1)
        if tag == 79:
            if self.at >= self.n:
                self.cut("an object")
            self.at += 1
            return self.put_object(self.number(self.data[self.at - 1]), at, depth + 1)
        if tag == 72 or tag == 77:
            return self.put_map(tag == 77, depth + 1)
        if 0x70 <= tag or 0x55 <= tag <= 0x58:
            return self.put_list(tag, depth + 1)
        self.bad(f"no value begins with 0x{tag:02x}", at)

    cdef int put_list(self, uint8_t tag, int depth) except -1:
        cdef Py_ssize_t own = self.enter(self.at - 1), at
        cdef int64_t count = -1, i = 0
        cdef int height = 0, inner
        if tag == 0x55 or tag == 0x56 or 0x70 <= tag < 0x78:
            self.pass_type()
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
        if count > self.n - self.at:
            self.cut(f"a list of {count} values")
        put_byte(self.json, 91)
        while i != count:
            if count < 0:
                if self.at >= self.n:
                    self.cut("a list")
                if self.data[self.at] == 90:
                    self.at += 1
                    break
            if i:
                put_byte(self.json, 44)
            inner = self.any(depth)
            if inner > height:
                height = inner
            i += 1
        put_byte(self.json, 93)
        (<Reference*>self.references.data)[own].end = self.json.length
        (<Reference*>self.references.data)[own].height = height + 1
        return height + 1

    cdef int put_map(self, bint typed, int depth) except -1:
        cdef Py_ssize_t own = self.enter(self.at - 1)
        cdef int height = 0, inner
        cdef bint first = True
        if typed:
            self.pass_type()
        put_byte(self.json, 123)
        while True:
            if self.at >= self.n:
                self.cut("a map")
            if self.data[self.at] == 90:
                self.at += 1
                break
            if not first:
                put_byte(self.json, 44)
            first = False
            self.key(depth)
            put_byte(self.json, 58)
            inner = self.any(depth)
            if inner > height:
                height = inner
        put_byte(self.json, 125)
        (<Reference*>self.references.data)[own].end = self.json.length
        (<Reference*>self.references.data)[own].height = height + 1
        return height + 1

    cdef int key(self, int depth) except -1:
        """A map's key, which JSON wants to be text."""
        cdef Py_ssize_t start = self.json.length, length
        cdef Py_ssize_t first = self.reference_count, i
        cdef char* text
        cdef Buffer copied
        self.any(depth)
        text = self.json.data + start
        length = self.json.length - start
        if text[0] == 34:
            return 0
        if text[0] != 123 and text[0] != 91:
            # A number or a word.
            self.json.reserve(2)
            text = self.json.data + start
            memmove(text + 1, text, length)
            text[0] = 34
            text[length + 1] = 34
            self.json.length += 2
            for i in range(first, self.reference_count):
                if not (<Reference*>self.references.data)[i].aside:
                    (<Reference*>self.references.data)[i].start += 1
                    (<Reference*>self.references.data)[i].end += 1
            return 0
        self.keep_aside(start, first)
        copied = Buffer()
        copied.append(text, length)
        self.json.length = start
        write_json_string(self.json, copied.data, length)
        return 0

    cdef int put_object(self, int64_t index, Py_ssize_t at, int depth) except -1:
        cdef Py_ssize_t own, start, member, before
        cdef bint first = True
        cdef Py_ssize_t spans[2 * ROLES]
        cdef ClassInfo known
        cdef FieldInfo field
        cdef int height = 0, inner
        cdef Py_ssize_t i
        if not 0 <= index < self.class_count:
            self.bad(f"class {index} of {self.class_count}", at)
        own = self.enter(at)
        known = (<ClassInfo*>self.classes.data)[index]
        if known.kind == LOST:
            lost_elements(None)
        for i in range(2 * ROLES):
            spans[i] = -1
        start = self.json.length
        put_byte(self.json, 123)
        if self.with_class and known.kind == PLAIN:
            put(self.json, b'"class":')
            self.json.append(self.names.data + known.name, known.name_length)
            first = False
        for i in range(known.count):
            field = (<FieldInfo*>self.fields.data)[known.first + i]
            member = self.json.length
            before = self.reference_count
            if not first:
                put_byte(self.json, 44)
            self.json.append(self.names.data + field.name, field.name_length)
            if field.role >= 0:
                spans[2 * field.role] = self.json.length
            if i == known.cause and self.is_reference_to(own):
                put(self.json, b"null")
                first = False
                continue
            inner = self.any(depth)
            if inner > height:
                height = inner
            if field.hidden:
                self.keep_aside(member, before)
                self.json.length = member
                continue
            first = False
            if field.role >= 0:
                spans[2 * field.role + 1] = self.json.length
        put_byte(self.json, 125)
        if known.kind != PLAIN:
            self.fold(known.kind, index, start, own, spans)
        (<Reference*>self.references.data)[own].end = self.json.length
        (<Reference*>self.references.data)[own].height = height + 1
        return height + 1

    cdef bint is_reference_to(self, Py_ssize_t number) except -1:
        """Whether the next value is a reference to ``number``, which is then passed over."""
        cdef Py_ssize_t at = self.at
        if self.n - at < 2 or self.data[at] != 0x51:
            return False
        self.at += 2
        if self.number(self.data[at + 1]) == number:
            return True
        self.at = at
        return False

    cdef int put_reference(self, int depth) except -1:
        cdef Py_ssize_t at = self.at - 1, length
        cdef int64_t index
        cdef Reference* found
        cdef char* to
        if self.at >= self.n:
            self.cut("a reference")
        self.at += 1
        index = self.number(self.data[at + 1])
        if not 0 <= index < self.reference_count:
            self.bad(f"reference {index} of {self.reference_count}", at)
        found = (<Reference*>self.references.data) + index
        if found.end == OPEN:
            raise LimitError(
                f"hessian2: a value that contains itself, which JSON cannot say, at byte {at}"
            )
        if found.end == SKIPPED:
            self.bad("a reference to a value that was skipped", at)
        if depth + found.height > self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        length = found.end - found.start
        if <Py_ssize_t>(self.json.length + self.aside.length) + length > self.json_bytes_max:
            self.too_much()
        to = self.json.reserve(length)
        memcpy(to, (self.aside.data if found.aside else self.json.data) + found.start, length)
        self.json.length += length
        return found.height

    cdef int keep_aside(self, Py_ssize_t start, Py_ssize_t first) except -1:
        """Copy what the references from ``first`` on have in ``json[start:]``, which will change.

        All of them that are not aside yet must be there.
        """
        cdef Py_ssize_t i, offset
        cdef Reference* reference
        if first == self.reference_count:
            return 0
        offset = <Py_ssize_t>self.aside.length - start
        self.aside.append(self.json.data + start, self.json.length - start)
        for i in range(first, self.reference_count):
            reference = (<Reference*>self.references.data) + i
            if not reference.aside:
                reference.start += offset
                reference.end += offset
                reference.aside = True
        return 0

    cdef int fold(
        self, int kind, int64_t index, Py_ssize_t start, Py_ssize_t own, const Py_ssize_t* spans
    ) except -1:
        """Put in the place of an object's members what it stands for, if they are as expected."""
        cdef Buffer json = self.json
        cdef char* text = json.data
        cdef Py_ssize_t length = spans[1] - spans[0]
        cdef int role
        if kind == AS_VALUE or kind == AS_PART or kind == AS_NUMBER:
            if spans[1] < 0 or (kind != AS_PART and text[spans[0]] != 34):
                return 0
            if kind == AS_NUMBER:
                if length - 2 > JSON_NUMBER_BYTES_MAX:
                    raise LimitError(
                        f"hessian2: a number of more than {JSON_NUMBER_BYTES_MAX} digits"
                        f" at byte {self.at}"
                    )
                if not is_number(text + spans[0] + 1, length - 2):
                    return 0
                length -= 2
            self.keep_aside(start, own + 1)
            memmove(text + start, text + spans[0] + (1 if kind == AS_NUMBER else 0), length)
            json.length = start + length
            return 0
        if kind != BY_NAME:
            if self._folded is None:
                self._folded = Buffer()
            self._folded.clear()
            if not fold_time(self._folded, kind, text, spans):
                return 0
            self.keep_aside(start, own + 1)
            json.length = start
            return json.append(self._folded.data, self._folded.length)
        # The rare ones in Python.
        name = (self.names.data + (<ClassInfo*>self.classes.data)[index].name + 1)[
            :(<ClassInfo*>self.classes.data)[index].name_length - 2
        ]
        parts = [
            text[spans[2 * role]:spans[2 * role + 1]] if spans[2 * role + 1] >= 0 else None
            for role in range(ROLES)
        ]
        folded = json_text(name.decode(), parts)
        if folded is None:
            return 0
        if len(folded) > JSON_NUMBER_BYTES_MAX and folded[0] != 34:
            raise LimitError(
                f"hessian2: a number of more than {JSON_NUMBER_BYTES_MAX} digits at byte {self.at}"
            )
        self.keep_aside(start, own + 1)
        json.length = start
        return json.append(PyBytes_AS_STRING(folded), PyBytes_GET_SIZE(folded))

# A scanner of the usual options that ``to_json`` has done with, and will use again.
cdef Hessian2Scanner spare = None


def to_json(
    data, *, bint with_class=False, enums=None, int depth_max=JSON_DEPTH_MAX,
    Py_ssize_t containers_max=CONTAINERS, Py_ssize_t json_bytes_max=JSON_BYTES
):
    """The JSON text, in UTF-8, of the one value that ``data`` is."""
    global spare
    cdef bytes kept = data if isinstance(data, bytes) else bytes(memoryview(data))
    cdef Hessian2Scanner scanner = spare
    cdef bint usual = (
        depth_max == JSON_DEPTH_MAX and containers_max == CONTAINERS
        and json_bytes_max == JSON_BYTES and not with_class and enums is None
    )
    if scanner is None or not usual:
        scanner = Hessian2Scanner(
            kept, with_class=with_class, enums=enums, depth_max=depth_max,
            containers_max=containers_max, json_bytes_max=json_bytes_max
        )
    else:
        # Taken away while it is in use: other threads come.
        spare = None
        scanner.start(kept, <const uint8_t*>PyBytes_AS_STRING(kept), PyBytes_GET_SIZE(kept))
    result = scanner.read_json()
    if scanner.at != scanner.n:
        scanner.bad("more than one value", scanner.at)
    if usual:
        scanner.start(None, NULL, 0)
        spare = scanner
    return result
