"""JSON values as text: checked, made strict, never built (RFC 8259).

The fastjson bodies, the agents' JSON contract and the demo provider carry JSON through without
making objects of it. The invariants: a value that was accepted is well formed, valid UTF-8, at most
``JSON_DEPTH_MAX`` deep and holds no number of more than ``JSON_NUMBER_BYTES_MAX`` bytes. No
function allocates by what its input claims, and none recurses.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp, memcpy

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.scan cimport (
    LOWER, hex4, plain_run, skip_space, three_run, utf8_sequence,
)
from dragoman.wire.json.string cimport (
    JSON_BAD,
    JSON_BAD_UTF8,
    JSON_NUMBER_TOO_LONG,
    JSON_OK,
    JSON_REFERENCE_NAMED,
    JSON_TOO_DEEP,
    JSON_TYPE_NAMED,
    Slice,
    json_problem,
    json_string_to_utf8,
)

from dragoman.errors import UsageError

DEPTH_MAX = JSON_DEPTH_MAX
NUMBER_BYTES_MAX = JSON_NUMBER_BYTES_MAX


cdef int write_json_line(Buffer out, const char* json, Py_ssize_t n) except -1:
    """Append JSON text with its line breaks made spaces, so that it stays one line.

    In well-formed JSON a raw line break is always white space: strings hold theirs escaped.
    """
    cdef char* dst = out.reserve(n)
    cdef Py_ssize_t i
    memcpy(dst, json, n)
    if memchr(json, c'\n', n) != NULL or memchr(json, c'\r', n) != NULL:
        for i in range(n):
            if dst[i] == c'\n' or dst[i] == c'\r':
                dst[i] = c' '
    out.length += n
    return JSON_OK


cdef inline Py_ssize_t string_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the string whose content begins at ``i``, or a negated outcome."""
    cdef uint8_t c
    cdef int size
    while True:
        i += plain_run(p + i, n - i)
        if i >= n:
            return -JSON_BAD
        c = p[i]
        if c == c'"':
            return i + 1
        if c == c'\\':
            if n - i < 2:
                return -JSON_BAD
            c = p[i + 1]
            if c == c'u':
                if n - i < 6 or hex4(p + i + 2) < 0:
                    return -JSON_BAD
                i += 6
            elif (
                c == c'"' or c == c'\\' or c == c'/' or c == c'b' or c == c'f' or c == c'n'
                or c == c'r' or c == c't'
            ):
                i += 2
            else:
                return -JSON_BAD
        elif c >= 0x80:
            size = utf8_sequence(p + i, n - i)
            if size == 0:
                return -JSON_BAD_UTF8
            i += size
            if size == 3 and c != 0xE0:
                i += three_run(p + i, n - i)
        else:
            return -JSON_BAD


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return c'0' <= c <= c'9'


cdef inline Py_ssize_t number_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the number at ``i`` (RFC 8259 section 6), or a negated outcome."""
    cdef Py_ssize_t start = i
    if p[i] == c'-':
        i += 1
    if i >= n or not is_digit(p[i]):
        return -JSON_BAD
    if p[i] == c'0':
        i += 1
        if i < n and is_digit(p[i]):
            return -JSON_BAD
    else:
        while i < n and is_digit(p[i]):
            i += 1
    if i < n and p[i] == c'.':
        i += 1
        if i >= n or not is_digit(p[i]):
            return -JSON_BAD
        while i < n and is_digit(p[i]):
            i += 1
    if i < n and (p[i] | LOWER) == c'e':
        i += 1
        if i < n and (p[i] == c'+' or p[i] == c'-'):
            i += 1
        if i >= n or not is_digit(p[i]):
            return -JSON_BAD
        while i < n and is_digit(p[i]):
            i += 1
    if i - start > JSON_NUMBER_BYTES_MAX:
        return -JSON_NUMBER_TOO_LONG
    return i


cdef inline Py_ssize_t word_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past ``true``, ``false`` or ``null``."""
    if n - i >= 4 and (memcmp(p + i, b"null", 4) == 0 or memcmp(p + i, b"true", 4) == 0):
        return i + 4
    if n - i >= 5 and memcmp(p + i, b"false", 5) == 0:
        return i + 5
    return -JSON_BAD


cdef inline Py_ssize_t scalar_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the value at ``i`` that is no object and no array, or a negated outcome."""
    if p[i] == c'"':
        return string_end(p, i + 1, n)
    if p[i] == c'-' or is_digit(p[i]):
        return number_end(p, i, n)
    return word_end(p, i, n)


cdef int command(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """What fastjson takes the JSON string ``p[:n]`` for as a member's name: JSON_TYPE_NAMED for
    ``@type``, JSON_REFERENCE_NAMED for ``$ref``, however they are escaped; JSON_OK for others."""
    cdef char text[40]
    cdef Py_ssize_t length
    if n == 7 and memcmp(p, b'"@type"', 7) == 0:
        return JSON_TYPE_NAMED
    if n == 6 and memcmp(p, b'"$ref"', 6) == 0:
        return JSON_REFERENCE_NAMED
    # Each of five characters as \\uXXXX is the longest spelling.
    if n < 6 or n > 32 or memchr(p, c'\\', n) == NULL:
        return JSON_OK
    length = json_string_to_utf8(<const char*>p, n, text)
    if length == 5 and memcmp(text, b"@type", 5) == 0:
        return JSON_TYPE_NAMED
    if length == 4 and memcmp(text, b"$ref", 4) == 0:
        return JSON_REFERENCE_NAMED
    return JSON_OK


# How walk takes the names of members: as JSON says; or also as fastjson writes a map's keys that
# are no text, ``{1:"a",true:"b",null:"c",{"x":1}:"d"}``; or as JSON says, but without ``@type``, or
# without it and ``$ref``.
cdef enum:
    STRICT
    LOOSE
    REFUSE_TYPE
    REFUSE_COMMANDS


cdef inline Py_ssize_t name_end(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, int names
) noexcept nogil:
    """Past the member's name that must begin at ``i``, or a negated outcome.

    0 if the name is an object or an array.
    """
    if i >= n:
        return -JSON_BAD
    if p[i] == c'"':
        return string_end(p, i + 1, n)
    if names != LOOSE:
        return -JSON_BAD
    if p[i] == c'{' or p[i] == c'[':
        return 0
    return scalar_end(p, i, n)


cdef inline int refusal(const uint8_t* p, Py_ssize_t n, int names) noexcept nogil:
    """Why the JSON string ``p[:n]`` is refused as a member's name; JSON_OK if it is not."""
    cdef int said = JSON_OK
    if names >= REFUSE_TYPE:
        said = command(p, n)
        if said == JSON_REFERENCE_NAMED and names == REFUSE_TYPE:
            return JSON_OK
    return said


# Of an object or an array that is open: what closes it, and whether it is itself a member's name.
cdef enum:
    CLOSER = 0x7F
    IS_NAME = 0x80


cdef inline uint8_t closer(uint8_t bracket) noexcept nogil:
    """What closes ``{`` or ``[``: in ASCII both stand two after it."""
    return bracket + 2


cdef inline Py_ssize_t go_on(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, const uint8_t* closers, int* depth, bint* named
) noexcept nogil:
    """Behind a value: past what closes there and past a comma, or a negated outcome.

    Stops as soon as nothing is open, or what has ended is a member's name (``named``).
    """
    while depth[0] > 0 and not named[0]:
        i = skip_space(p, i, n)
        if i >= n:
            return -JSON_BAD
        if p[i] == c',':
            return skip_space(p, i + 1, n)
        if p[i] != closers[depth[0] - 1] & CLOSER:
            return -JSON_BAD
        i += 1
        depth[0] -= 1
        named[0] = closers[depth[0]] & IS_NAME
    return i


cdef Py_ssize_t walk(const uint8_t* p, Py_ssize_t n, Py_ssize_t i, int names) noexcept nogil:
    """Past the one value at ``i`` (no white space before it), or a negated outcome."""
    cdef uint8_t closers[JSON_DEPTH_MAX]
    cdef uint8_t c, naming = 0
    cdef int depth = 0
    cdef Py_ssize_t start = i
    cdef bint opened  # an object that is not empty
    cdef bint named   # the value that has ended is a member's name
    cdef int refused
    while True:
        # Here a value must begin.
        if i >= n:
            return -JSON_BAD
        c = p[i]
        opened = named = False
        if c == c'{' or c == c'[':
            if depth == JSON_DEPTH_MAX:
                return -JSON_TOO_DEEP
            closers[depth] = closer(c) | naming
            naming = 0
            i = skip_space(p, i + 1, n)
            if i < n and p[i] == closer(c):
                named = closers[depth] & IS_NAME
                i += 1
            else:
                depth += 1
                if c == c'[':
                    continue
                opened = True
        else:
            i = scalar_end(p, i, n)
            if i < 0:
                return i
        if not opened:
            i = go_on(p, i, n, closers, &depth, &named)
            if i < 0 or depth == 0:
                return i
            if not named and closers[depth - 1] & CLOSER == c']':
                continue
        if not named:
            start = i
            i = name_end(p, start, n, names)
            if i == 0:
                naming = IS_NAME
                i = start
                continue
            if i < 0:
                return i
        refused = refusal(p + start, i - start, names)
        if refused != JSON_OK:
            return -refused
        i = skip_space(p, i, n)
        if i >= n or p[i] != c':':
            return -JSON_BAD
        i = skip_space(p, i + 1, n)


cdef Py_ssize_t json_value_end(const char* json, Py_ssize_t n, Py_ssize_t start) noexcept nogil:
    """Where the JSON value at ``start`` ends, or a negated ``JSON_*`` outcome.

    Ignores what follows it.
    """
    return walk(<const uint8_t*>json, n, start, STRICT)


cdef Py_ssize_t json_typeless_end(const char* json, Py_ssize_t n, Py_ssize_t start) noexcept nogil:
    """The same, but an object's member ``@type`` is refused, too (``JSON_TYPE_NAMED``)."""
    return walk(<const uint8_t*>json, n, start, REFUSE_TYPE)


cdef int json_check(const char* json, Py_ssize_t n, Slice* value) noexcept nogil:
    """Whether ``json[:n]`` is exactly one value with optional white space around it.

    Returns ``JSON_OK`` and the value without that white space, or what is wrong. A ``\\uD800``
    without its other half is well formed (RFC 8259 section 8.2) and passes: only decoding refuses
    it.
    """
    return check(json, n, value, STRICT)


cdef int json_check_loose(const char* json, Py_ssize_t n, Slice* value) noexcept nogil:
    """``json_check``, but names of members may be any values, as fastjson's are.

    What passes here and not there becomes JSON by ``json.loose.write_strict_json``.
    """
    return check(json, n, value, LOOSE)


cdef int check(const char* json, Py_ssize_t n, Slice* value, int names) noexcept nogil:
    cdef const uint8_t* p = <const uint8_t*>json
    cdef Py_ssize_t start = skip_space(p, 0, n)
    cdef Py_ssize_t end = walk(p, n, start, names)
    if end < 0:
        return <int>-end
    value.data = json + start
    value.length = end - start
    return JSON_OK if skip_space(p, end, n) == n else JSON_BAD


cdef int write_json_without_class(Buffer out, const char* json, Py_ssize_t n) except -1:
    """Append well-formed JSON without the members ``class`` that are strings.

    So generic invocation marks what was a bean (``PojoUtils.generalize``).
    """
    cdef const uint8_t* p = <const uint8_t*>json
    cdef Py_ssize_t i = 0, copied = 0, start, end, value
    cdef size_t begun = out.length
    while i < n:
        if p[i] != c'"':
            i += 1
            continue
        start = i
        i = string_end(p, i + 1, n)
        if i < 0:
            raise UsageError(json_problem(JSON_BAD).decode())  # it was never checked
        end = skip_space(p, i, n)
        if end == n or p[end] != c':' or i - start != 7 or memcmp(p + start, b'"class"', 7) != 0:
            continue
        value = skip_space(p, end + 1, n)
        if value == n or p[value] != c'"':
            continue
        end = string_end(p, value + 1, n)
        if end < 0:
            raise UsageError(json_problem(JSON_BAD).decode())
        out.append(p + copied, start - copied)
        copied = end
        end = skip_space(p, end, n)
        if end < n and p[end] == c',':
            copied = skip_space(p, end + 1, n)
        else:  # the last of its object: the comma before it goes too
            while out.length > begun and (
                out.data[out.length - 1] == c' ' or out.data[out.length - 1] == c'\n'
                or out.data[out.length - 1] == c'\r' or out.data[out.length - 1] == c'\t'
            ):
                out.length -= 1
            if out.length > begun and out.data[out.length - 1] == c',':
                out.length -= 1
        i = copied
    out.append(p + copied, n - copied)
    return JSON_OK


cdef int json_names_a_type(const char* json, Py_ssize_t n) noexcept nogil:
    """``JSON_TYPE_NAMED`` when some object has the member ``@type``, however it is escaped.

    fastjson makes an object of the class that ``@type`` names: an agent must not let a stranger's
    request do that to a provider. ``JSON_OK`` when there is none, else what is wrong with the JSON.
    """
    cdef Slice value
    return check(json, n, &value, REFUSE_TYPE)


cdef int json_commands_fastjson(const char* json, Py_ssize_t n) noexcept nogil:
    """``json_names_a_type``, and ``JSON_REFERENCE_NAMED`` when some object has the member ``$ref``:
    fastjson puts another part of what it has read in such an object's place."""
    cdef Slice value
    return check(json, n, &value, REFUSE_COMMANDS)


def check_value(bytes json not None):
    """The one JSON value in ``json`` without the white space around it.

    UsageError when it is not one.
    """
    cdef Slice value
    cdef int code = json_check(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json), &value)
    if code != JSON_OK:
        raise UsageError(json_problem(code).decode())
    return value.data[:value.length]


def names_a_type(bytes json not None):
    """Whether some object in well-formed ``json`` has a member ``@type``.

    UsageError when malformed.
    """
    cdef int code = json_names_a_type(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json))
    if code != JSON_OK and code != JSON_TYPE_NAMED:
        raise UsageError(json_problem(code).decode())
    return code == JSON_TYPE_NAMED


def for_fastjson(bytes json not None):
    """Well-formed ``json`` as it is. UsageError for what fastjson would not take as it is: members
    ``@type`` and ``$ref``, by which it makes objects of classes and looks for others' values."""
    cdef int code = json_commands_fastjson(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json))
    if code != JSON_OK:
        raise UsageError(json_problem(code).decode())
    return json


def without_class(bytes json not None):
    """Well-formed ``json`` without the members ``class`` that are strings. UsageError otherwise."""
    cdef Slice value
    cdef Buffer out = Buffer()
    cdef int code = json_check(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json), &value)
    if code != JSON_OK:
        raise UsageError(json_problem(code).decode())
    write_json_without_class(out, value.data, value.length)
    return out.take()
