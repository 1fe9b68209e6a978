"""The strings of hessian2 (Hessian 2.0 specification, section 4.12).

| first byte | string |
| --- | --- |
| ``00``-``1f`` | that many UTF-16 units |
| ``30``-``33`` | (byte - 0x30) * 256 + next byte units |
| ``53`` S | u16 units, the last chunk |
| ``52`` R | u16 units, another chunk follows |

A unit is one to three bytes; a character beyond U+FFFF is two units, each written as three bytes
(that is how Java's writers do it), though four bytes are read as well. The readers and writers of
values, error replies and events use this. The invariants: a length is believed only when the bytes
are there; what goes to UTF-8 is valid UTF-8 or refused. Half of a surrogate pair, which Java's
strings may hold, is kept in a ``str`` and has no UTF-8.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.heads cimport string_head
from dragoman.wire.hessian2.tags cimport (
    CHUNK_MAX, STRING_SHORT_MAX, STRING_TINY_MAX, TAG_STRING, TAG_STRING_CHUNK, TAG_STRING_SHORT,
    TAG_STRING_TINY,
)
from dragoman.wire.json.scan cimport put_utf8, three_run

from dragoman.errors import UsageError

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    str PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    void* PyUnicode_DATA(object text)
    int PyUnicode_KIND(object text)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_UCS4 PyUnicode_READ(int kind, void* data, Py_ssize_t index)
    void PyUnicode_WRITE(int kind, void* data, Py_ssize_t index, Py_UCS4 value)


cdef int utf8_point(const uint8_t* p, Py_ssize_t n, uint32_t* point) noexcept nogil:
    """Length of the UTF-8 sequence at ``p`` with surrogates allowed, 0 if there is none."""
    cdef uint8_t a = p[0]
    if a < 0x80:
        point[0] = a
        return 1
    if a < 0xC2 or a > 0xF4:
        return 0
    if a < 0xE0:
        if n < 2 or (p[1] & 0xC0) != 0x80:
            return 0
        point[0] = (<uint32_t>(a & 31) << 6) | (p[1] & 63)
        return 2
    if n < 3 or (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80:
        return 0
    if a < 0xF0:
        point[0] = (<uint32_t>(a & 15) << 12) | (<uint32_t>(p[1] & 63) << 6) | (p[2] & 63)
        return 3 if point[0] >= 0x800 else 0
    if n < 4 or (p[3] & 0xC0) != 0x80:
        return 0
    point[0] = (
        (<uint32_t>(a & 7) << 18) | (<uint32_t>(p[1] & 63) << 12)
        | (<uint32_t>(p[2] & 63) << 6) | (p[3] & 63)
    )
    return 4 if 0x10000 <= point[0] <= 0x10FFFF else 0


cdef Py_ssize_t one_chunk(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t* length
) noexcept nogil:
    """Where the text of the string at ``p[at]`` begins, and how many bytes it has.

    -1 if it is not in one chunk of characters of one unit, and whenever it takes a closer look to
    tell (``string_shape``). The text may not be UTF-8.
    """
    cdef Py_ssize_t units = 0, run
    cdef Py_ssize_t text = string_head(p, n, at, &units)
    if text < 0 or p[at] == TAG_STRING_CHUNK:
        return -1
    run = ascii_run(p + text, units if units < n - text else n - text)
    length[0] = units
    if run < units:
        length[0] = units_length(p + text + run, n - text - run, units - run)
        if length[0] < 0:
            return -1
        length[0] += run
    return text


cdef str read_text(const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t* end):
    """The string at ``p[at]``, and where it ends; None where it is cut short or malformed, and
    where that is.
    """
    cdef StringShape shape
    cdef object result
    cdef Py_ssize_t length = 0, units = 0
    cdef Py_ssize_t text = one_chunk(p, n, at, &length)
    if text >= 0:
        end[0] = text + length
        string_head(p, n, at, &units)
        if length == units and ascii_run(p + text, length) == length:
            result = PyUnicode_New(length, 127)
            memcpy(PyUnicode_DATA(result), p + text, length)
            return <str>result
        try:
            return PyUnicode_DecodeUTF8(<const char*>p + text, length, NULL)
        except UnicodeDecodeError:
            pass  # a closer look tells where
    if string_shape(p, n, at, &shape):
        end[0] = shape.end
        return None
    end[0] = shape.end
    return string_text(p, &shape)


cdef int string_shape(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t at, StringShape* shape
) noexcept nogil:
    """Measure the string at ``p[at]``. 0, or -1 when it is cut short or malformed.

    On -1 ``shape.end`` tells where.
    """
    cdef Py_ssize_t units = 0
    cdef Py_ssize_t text = string_head(p, n, at, &units)
    cdef bint high = False, last
    shape.start = at
    shape.end = at
    shape.text = -1
    shape.points = 0
    shape.widest = 127
    if text < 0:
        return -1
    if p[at] != TAG_STRING_CHUNK and (
        ascii_run(p + text, units if units < n - text else n - text) == units
    ):
        shape.text = text
        shape.points = units
        shape.end = text + units
        return 0
    while True:
        text = string_head(p, n, at, &units)
        shape.end = at
        if text < 0:
            return -1
        last = p[at] != TAG_STRING_CHUNK
        at = chunk_shape(p, n, text, units, &high, shape)
        if at < 0:
            return -1
        if last:
            return 0


cdef inline Py_ssize_t chunk_shape(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t units, bint* high, StringShape* shape
) noexcept nogil:
    """Measure the text of one chunk at ``p[at]``; where it ends, or -1.

    ``high`` tells whether the character before is the first half of a pair.
    """
    cdef Py_ssize_t run
    cdef uint32_t point = 0
    cdef int size
    while units > 0:
        run = ascii_run(p + at, units if units < n - at else n - at)
        if run:
            at += run
            units -= run
            shape.points += run
            high[0] = False
            continue
        if at < n and 0xE0 <= p[at] < 0xF0:
            run = three_run(p + at, 3 * units if 3 * units < n - at else n - at)
        if run:
            at += run
            units -= run // 3
            shape.points += run // 3
            if shape.widest < 0xFFFF:
                shape.widest = 0xFFFF
            high[0] = False
            continue
        shape.end = at
        if at >= n:
            return -1
        size = utf8_point(p + at, n - at, &point)
        if size == 0:
            return -1
        at += size
        units -= 2 if size == 4 else 1
        if high[0] and 0xDC00 <= point <= 0xDFFF:
            # The pair is one character, already counted.
            shape.widest = 0x10FFFF
            high[0] = False
            continue
        high[0] = 0xD800 <= point <= 0xDBFF
        shape.points += 1
        if point > shape.widest:
            shape.widest = point
    shape.end = at
    return -1 if units < 0 else at


cdef str string_text(const uint8_t* p, const StringShape* shape):
    """The string that ``string_shape`` has measured."""
    cdef object result = PyUnicode_New(shape.points, shape.widest)
    cdef void* data = PyUnicode_DATA(result)
    cdef int kind
    cdef Py_ssize_t at = shape.start, units = 0, filled = 0
    cdef uint32_t point = 0, high = 0
    cdef bint last
    cdef int size
    if shape.text >= 0:
        memcpy(data, p + shape.text, shape.points)
        return <str>result
    kind = PyUnicode_KIND(result)
    while True:
        last = p[at] != TAG_STRING_CHUNK
        at = string_head(p, shape.end, at, &units)
        while units > 0:
            size = utf8_point(p + at, shape.end - at, &point)
            at += size
            units -= 2 if size == 4 else 1
            if high and 0xDC00 <= point <= 0xDFFF:
                point = 0x10000 + ((high - 0xD800) << 10) + (point - 0xDC00)
                PyUnicode_WRITE(kind, data, filled - 1, point)
                high = 0
                continue
            high = point if 0xD800 <= point <= 0xDBFF else 0
            PyUnicode_WRITE(kind, data, filled, point)
            filled += 1
        if last:
            return <str>result


cdef inline uint8_t* put_head(uint8_t* to, Py_ssize_t units, bint last) noexcept nogil:
    """Write the head of a chunk."""
    if not last or units > STRING_SHORT_MAX:
        to[0] = TAG_STRING if last else TAG_STRING_CHUNK
        to[1] = units >> 8
        to[2] = units & 255
        return to + 3
    if units <= STRING_TINY_MAX:
        to[0] = TAG_STRING_TINY + units
        return to + 1
    to[0] = TAG_STRING_SHORT + (units >> 8)
    to[1] = units & 255
    return to + 2


cdef int write_text(Buffer out, str text) except -1:
    """Append a ``str`` as Java writes the same string, halves of surrogate pairs included."""
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(text), i = 0, at, units
    cdef void* data = PyUnicode_DATA(text)
    cdef int kind = PyUnicode_KIND(text)
    cdef bint ascii = PyUnicode_IS_ASCII(text)
    cdef uint32_t point
    cdef uint8_t* to
    while True:
        if kind != 4:
            units = n - i if n - i < CHUNK_MAX else CHUNK_MAX
            at = i + units
        else:
            units = 0
            at = i
            while at < n:
                point = PyUnicode_READ(kind, data, at)
                if units + (2 if point > 0xFFFF else 1) > CHUNK_MAX:
                    break
                units += 2 if point > 0xFFFF else 1
                at += 1
        to = <uint8_t*>out.reserve(units + 3 if ascii else units * 3 + 3 + 16)
        to = put_head(to, units, at == n)
        if ascii:
            memcpy(to, <uint8_t*>data + i, units)
            to += units
            i = at
        elif kind == 2:
            to = units_to_utf8(to, <uint16_t*>data + i, units)
            i = at
        while i < at:
            point = PyUnicode_READ(kind, data, i)
            i += 1
            if point > 0xFFFF:
                to = put_utf8(put_utf8(to, 0xD7C0 + (point >> 10)), 0xDC00 + (point & 0x3FF))
            else:
                to = put_utf8(to, point)
        out.length = to - <uint8_t*>out.data
        if i == n:
            return 0


cdef Py_ssize_t chunk_end(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t* units, bint* pairs
) noexcept nogil:
    """Where a chunk of the UTF-8 ``p[:n]`` ends that begins at ``at``; -1 if that is no UTF-8.

    It ends before a character that does not fit it whole. ``units`` is how many it has, ``pairs``
    whether there are characters of two among them.
    """
    cdef Py_ssize_t left = CHUNK_MAX, run
    cdef uint32_t point = 0
    cdef int size
    pairs[0] = False
    while at < n and left:
        if p[at] < 0x80:
            run = ascii_run(p + at, left if left < n - at else n - at)
            left -= run
            at += run
            continue
        if 0xC2 <= p[at] < 0xE0 and at + 1 < n and (p[at + 1] & 0xC0) == 0x80:
            left -= 1
            at += 2
            continue
        if 0xE0 <= p[at] < 0xF0:
            run = three_run(p + at, 3 * left if 3 * left < n - at else n - at)
            if run:
                left -= run // 3
                at += run
                continue
        size = utf8_point(p + at, n - at, &point)
        if size == 0 or 0xD800 <= point <= 0xDFFF:
            return -1
        if size == 4:
            if left < 2:
                break
            pairs[0] = True
            left -= 1
        left -= 1
        at += size
    units[0] = CHUNK_MAX - left
    return at


cdef int write_hessian_string(Buffer out, const char* utf8, Py_ssize_t n) except -1:
    """Append ``n`` bytes of UTF-8 as a hessian2 string.

    Returns 1, nothing appended, if they are none.
    """
    cdef const uint8_t* p = <const uint8_t*>utf8
    cdef Py_ssize_t i = 0, at, units = 0
    cdef size_t start = out.length
    cdef bint pairs = False
    cdef uint32_t point = 0
    cdef int size
    cdef uint8_t* to
    while True:
        at = chunk_end(p, n, i, &units, &pairs)
        if at < 0:
            out.length = start
            return 1
        # A pair takes six bytes for four.
        to = <uint8_t*>out.reserve(3 + ((at - i + 1) // 2 * 3 if pairs else at - i))
        to = put_head(to, units, at == n)
        if not pairs:
            memcpy(to, p + i, at - i)
            to += at - i
            i = at
        while i < at:
            size = utf8_point(p + i, n - i, &point)
            i += size
            if size == 4:
                to = put_utf8(put_utf8(to, 0xD7C0 + (point >> 10)), 0xDC00 + (point & 0x3FF))
            else:
                to = put_utf8(to, point)
        out.length = to - <uint8_t*>out.data
        if i == n:
            return 0


cdef Py_ssize_t hessian_string_to_utf8(
    const char* data, Py_ssize_t n, char* dst, Py_ssize_t* used
) noexcept nogil:
    """Decode the hessian2 string at ``data`` into ``dst`` with room for ``n`` bytes.

    Returns its length in bytes and sets ``used`` to what it took of ``data``, or -1: no string, not
    all of it there, half a surrogate pair, or not UTF-8.
    """
    cdef const uint8_t* p = <const uint8_t*>data
    cdef uint8_t* to = <uint8_t*>dst
    cdef Py_ssize_t i = 0, units = 0
    cdef uint32_t point, high = 0
    cdef bint last = False
    cdef int size
    while not last:
        last = i < n and p[i] != TAG_STRING_CHUNK
        i = string_head(p, n, i, &units)
        if i < 0:
            return -1
        while units > 0:
            if i >= n:
                return -1
            size = utf8_point(p + i, n - i, &point)
            if size == 0:
                return -1
            i += size
            units -= 2 if size == 4 else 1
            if high:
                if not 0xDC00 <= point <= 0xDFFF:
                    return -1
                to = put_utf8(to, 0x10000 + ((high - 0xD800) << 10) + (point - 0xDC00))
                high = 0
            elif 0xD800 <= point <= 0xDBFF:
                high = point
            elif 0xDC00 <= point <= 0xDFFF:
                return -1
            else:
                to = put_utf8(to, point)
        if units < 0:
            return -1
    if high:
        return -1
    used[0] = i
    return to - <uint8_t*>dst


def encode_string(bytes utf8 not None):
    """The hessian2 string of UTF-8 bytes. UsageError when they are not UTF-8."""
    cdef Buffer out = Buffer()
    if write_hessian_string(out, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8)):
        raise UsageError("text is not valid UTF-8")
    return out.take()


def decode_string(bytes data not None):
    """The UTF-8 bytes of the hessian2 string that is all of ``data``.

    UsageError when it is none.
    """
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data), used = 0
    cdef bytes result = PyBytes_FromStringAndSize(NULL, n)
    cdef Py_ssize_t length = hessian_string_to_utf8(
        PyBytes_AS_STRING(data), n, PyBytes_AS_STRING(result), &used
    )
    if length < 0 or used != n:
        raise UsageError("not one well-formed hessian2 string")
    return result[:length]
