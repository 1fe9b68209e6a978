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
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memmove

from dragoman.wire.big_endian cimport read16, read32, read64
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.fold cimport (
    AS_NUMBER, AS_PART, AS_VALUE, BY_NAME, LOST, PLAIN, ROLES, fold_time,
)
from dragoman.wire.hessian2.heads cimport binary_head
from dragoman.wire.hessian2.tags cimport (
    TAG_CLASS, TAG_DATE, TAG_DOUBLE_BYTE, TAG_DOUBLE_MILLS, TAG_DOUBLE_ONE, TAG_DOUBLE_SHORT,
    TAG_DOUBLE_ZERO, TAG_FALSE, TAG_MAP_TYPED, TAG_NULL, TAG_REFERENCE, TAG_TRUE, date_bytes,
    double_bytes, is_binary, is_date, is_double, is_list, is_map, is_object, is_string,
)
from dragoman.wire.hessian2.tags cimport is_number as is_whole
from dragoman.wire.hessian2.walker cimport (
    OPEN, SKIPPED, ClassInfo, FieldInfo, Hessian2Walker, Reference,
)
from dragoman.wire.json.base64 cimport Base64, end_base64, more_base64
from dragoman.wire.json.numbers cimport (
    is_number, put, put_byte, put_double, put_int, put_moment, put_thousandths,
)
from dragoman.wire.json.string cimport write_json_string
from dragoman.wire.json.text cimport JSON_DEPTH_MAX, JSON_NUMBER_BYTES_MAX

from dragoman.errors import LimitError, UsageError
from dragoman.wire.java.bean_text import json_text
from dragoman.wire.java.from_bean import lost_elements
from dragoman.wire.hessian2.reader import CONTAINERS_MAX

cdef enum:
    JSON_BYTES = 64 * 1024 * 1024

cdef Py_ssize_t CONTAINERS = CONTAINERS_MAX


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
        cdef int size = double_bytes(tag)
        cdef double number
        cdef int64_t thousandths
        cdef uint64_t bits
        if self.n - self.at < size:
            self.cut("a double")
        self.at += size
        if tag == TAG_DOUBLE_ZERO or tag == TAG_DOUBLE_ONE:
            return put(self.json, b"1.0" if tag == TAG_DOUBLE_ONE else b"0.0")
        if tag == TAG_DOUBLE_BYTE or tag == TAG_DOUBLE_SHORT:
            put_int(self.json, <int8_t>p[0] if tag == TAG_DOUBLE_BYTE else <int16_t>read16(p))
            return put(self.json, b".0")
        if tag == TAG_DOUBLE_MILLS:
            thousandths = <int32_t>read32(p)
            number = 0.001 * <double>thousandths
            if number == <double>thousandths / 1000.0:
                # Of at most 15 digits, so the decimal fraction is the shortest text for it.
                return put_thousandths(self.json, thousandths)
        else:
            bits = read64(p)
            memcpy(&number, &bits, 8)
        return put_double(self.json, number)

    cdef int put_binary(self) except -1:
        """The binary value at ``at`` in base64."""
        cdef Py_ssize_t at = self.at, size = 0, total = self.pass_binary()
        cdef Base64 text
        text.to = self.json.reserve((total + 2) // 3 * 4 + 2)
        text.to[0] = c'"'
        text.to += 1
        text.held = 0
        text.gathered = 0
        while at < self.at:
            at += binary_head(self.data + at, self.n - at, &size)
            more_base64(&text, self.data + at, size)
            at += size
        end_base64(&text)
        text.to[0] = c'"'
        self.json.length = (text.to + 1) - self.json.data
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
        if is_string(tag):
            self.put_text(self.json)
            return 0
        self.at = at + 1
        if is_whole(tag):
            put_int(self.json, self.number(tag))
            return 0
        if tag == TAG_NULL:
            return put(self.json, b"null")
        if tag == TAG_TRUE:
            return put(self.json, b"true")
        if tag == TAG_FALSE:
            return put(self.json, b"false")
        if is_double(tag):
            return self.put_double(tag)
        if is_binary(tag):
            self.at = at
            return self.put_binary()
        if is_date(tag):
            if self.n - self.at < date_bytes(tag):
                self.cut("a date")
            self.at += date_bytes(tag)
            return put_moment(
                self.json,
                <int64_t>read64(p + 1) if tag == TAG_DATE
                else <int64_t>(<int32_t>read32(p + 1)) * 60000
            )
        if tag == TAG_REFERENCE:
            return self.put_reference(depth)
        return self.put_nested(tag, depth)

    cdef int put_nested(self, uint8_t tag, int depth) except -1:
        """A list, map or object that ``tag`` began, behind definitions or not."""
        cdef Py_ssize_t at = self.at - 1
        if depth >= self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        if tag == TAG_CLASS:
            tag = self.definitions()
            if not is_object(tag):
                return self.any(depth + 1)
            at = self.at
            self.at += 1
        if is_object(tag):
            return self.put_object(tag, at, depth + 1)
        if is_map(tag):
            return self.put_map(tag == TAG_MAP_TYPED, depth + 1)
        if is_list(tag):
            return self.put_list(tag, depth + 1)
        self.bad(f"no value begins with 0x{tag:02x}", at)

    cdef int put_list(self, uint8_t tag, int depth) except -1:
        cdef Py_ssize_t own = self.enter(self.at - 1)
        cdef int64_t count = self.list_head(tag), i = 0
        cdef int height = 0, inner
        if count > self.n - self.at:
            self.cut(f"a list of {count} values")
        put_byte(self.json, c'[')
        while i != count and not (count < 0 and self.ends("a list")):
            if i:
                put_byte(self.json, c',')
            inner = self.any(depth)
            if inner > height:
                height = inner
            i += 1
        put_byte(self.json, c']')
        return self.leave(own, height + 1)

    cdef int leave(self, Py_ssize_t own, int height) except -1:
        """A container's JSON is whole: references to it may come; its height."""
        (<Reference*>self.references.data)[own].end = self.json.length
        (<Reference*>self.references.data)[own].height = height
        return height

    cdef int put_map(self, bint typed, int depth) except -1:
        cdef Py_ssize_t own = self.enter(self.at - 1)
        cdef int height = 0, inner
        cdef bint first = True
        if typed:
            self.pass_type()
        put_byte(self.json, c'{')
        while not self.ends("a map"):
            if not first:
                put_byte(self.json, c',')
            first = False
            self.key(depth)
            put_byte(self.json, c':')
            inner = self.any(depth)
            if inner > height:
                height = inner
        put_byte(self.json, c'}')
        return self.leave(own, height + 1)

    cdef int key(self, int depth) except -1:
        """A map's key, which JSON wants to be text."""
        cdef Py_ssize_t start = self.json.length, length
        cdef Py_ssize_t first = self.reference_count, i
        cdef char* text
        cdef Buffer copied
        self.any(depth)
        text = self.json.data + start
        length = self.json.length - start
        if text[0] == c'"':
            return 0
        if text[0] != c'{' and text[0] != c'[':
            # A number or a word.
            self.json.reserve(2)
            text = self.json.data + start
            memmove(text + 1, text, length)
            text[0] = c'"'
            text[length + 1] = c'"'
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

    cdef int put_object(self, uint8_t tag, Py_ssize_t at, int depth) except -1:
        cdef Py_ssize_t index = self.class_number(tag, at), own = self.enter(at)
        cdef Py_ssize_t start, member, before, i
        cdef bint first = True
        cdef Py_ssize_t spans[2 * ROLES]
        cdef ClassInfo known
        cdef FieldInfo field
        cdef int height = 0, inner
        known = (<ClassInfo*>self.classes.data)[index]
        if known.kind == LOST:
            lost_elements(None)
        for i in range(2 * ROLES):
            spans[i] = -1
        start = self.json.length
        put_byte(self.json, c'{')
        if self.with_class and known.kind == PLAIN:
            put(self.json, b'"class":')
            self.json.append(self.names.data + known.name, known.name_length)
            first = False
        for i in range(known.count):
            field = (<FieldInfo*>self.fields.data)[known.first + i]
            member = self.json.length
            before = self.reference_count
            if not first:
                put_byte(self.json, c',')
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
        put_byte(self.json, c'}')
        if known.kind != PLAIN:
            self.fold(known.kind, index, start, own, spans)
        return self.leave(own, height + 1)

    cdef bint is_reference_to(self, Py_ssize_t number) except -1:
        """Whether the next value is a reference to ``number``, which is then passed over."""
        cdef Py_ssize_t at = self.at
        if self.n - at < 2 or self.data[at] != TAG_REFERENCE:
            return False
        self.at += 2
        if self.number(self.data[at + 1]) == number:
            return True
        self.at = at
        return False

    cdef int put_reference(self, int depth) except -1:
        cdef Py_ssize_t at = self.at - 1, length
        cdef Reference* found = (<Reference*>self.references.data) + self.referred()
        cdef char* to
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
            if spans[1] < 0 or (kind != AS_PART and text[spans[0]] != c'"'):
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
        if len(folded) > JSON_NUMBER_BYTES_MAX and folded[0] != c'"':
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
