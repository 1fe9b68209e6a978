"""A JSON call as nearly all callers write it: its members found in place, nothing made of them.

``agent.ingress`` and ``dubbo.upstream.encode_request`` ask here first. What is not taken (rarer
members, a member twice, escapes in names, many arguments, ``@type``, all that is malformed) they
read by the declarations of ``agent.contract`` and ``dubbo.upstream.json_call``, which also say what
is wrong. The invariant: what is taken here reads the same there, but that members which only one of
the two agents knows are the asker's to refuse.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp, memset, strlen

from dragoman.wire.json.scan cimport LOWER, plain_run, skip_space
from dragoman.wire.json.string cimport Slice
from dragoman.wire.json.text cimport json_typeless_end

cdef enum:
    TYPES
    ARGS
    ATTACHMENTS
    FIELDS
    GROUP
    VERSION
    CLASS_NAMES
    ENVELOPE
    ONE_WAY
    MEMBERS

cdef const char* NAMES[MEMBERS]
NAMES[:] = [
    "types", "args", "attachments", "fields", "group", "version", "class", "envelope", "oneway",
]


cdef bint read_usual_call(const char* body, Py_ssize_t n, UsualCall* call) noexcept nogil:
    """Whether ``body[:n]`` is an object of usual members only, one at least; what they are."""
    cdef const uint8_t* p = <const uint8_t*>body
    cdef Py_ssize_t i = skip_space(p, 0, n), start
    cdef int member, seen = 0
    memset(call, 0, sizeof(UsualCall))
    if i == n or p[i] != c'{':
        return False
    while True:
        # Behind the brace, or a comma.
        start = skip_space(p, i + 1, n)
        i = text_end(p, start, n)
        if i < 0:
            return False
        member = member_named(body + start + 1, i - start - 2)
        if member == MEMBERS or seen & 1 << member:
            return False
        seen |= 1 << member
        i = skip_space(p, i, n)
        if i == n or p[i] != c':':
            return False
        i = read_member(p, skip_space(p, i + 1, n), n, member, call)
        if i < 0:
            return False
        i = skip_space(p, i, n)
        if i == n:
            return False
        if p[i] == c'}':
            return skip_space(p, i + 1, n) == n
        if p[i] != c',':
            return False


cdef inline Py_ssize_t text_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the string at ``i``, if it is one of ASCII without escapes; else -1."""
    if i >= n or p[i] != c'"':
        return -1
    i += 1
    i += plain_run(p + i, n - i)
    return i + 1 if i < n and p[i] == c'"' else -1


cdef int member_named(const char* name, Py_ssize_t n) noexcept nogil:
    cdef int member
    for member in range(MEMBERS):
        if <Py_ssize_t>strlen(NAMES[member]) == n and memcmp(NAMES[member], name, n) == 0:
            return member
    return MEMBERS


cdef Py_ssize_t read_member(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, int member, UsualCall* call
) noexcept nogil:
    """Past the member's value at ``i``; -1 for what is not usual."""
    cdef Py_ssize_t end
    if member == TYPES:
        return read_types(p, i, n, call)
    if member == ARGS:
        return read_arguments(p, i, n, call)
    if member == ATTACHMENTS:
        return read_attachments(p, i, n, call)
    if member == FIELDS:
        if i == n or p[i] != c'{':
            return -1
        end = json_typeless_end(<const char*>p, n, i)
        point_at(&call.fields, p, i, end)
        return end
    if member == GROUP or member == VERSION:
        end = text_end(p, i, n)
        point_at(&call.group if member == GROUP else &call.version, p, i + 1, end - 1)
        return end
    if member == CLASS_NAMES:
        return read_flag(p, i, n, &call.class_names)
    return read_flag(p, i, n, &call.envelope if member == ENVELOPE else &call.one_way)


cdef inline void point_at(
    Slice* slice, const uint8_t* p, Py_ssize_t start, Py_ssize_t end
) noexcept nogil:
    slice.data = <const char*>p + start
    slice.length = end - start


cdef inline Py_ssize_t read_flag(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, bint* flag
) noexcept nogil:
    if n - i >= 4 and memcmp(p + i, b"true", 4) == 0:
        flag[0] = True
        return i + 4
    return i + 5 if n - i >= 5 and memcmp(p + i, b"false", 5) == 0 else -1


cdef inline Py_ssize_t item_at(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, bint first, uint8_t closer
) noexcept nogil:
    """Where the next item begins, or the closing bracket is; -1 for what is neither.

    ``i`` is behind the opening bracket, or the item before.
    """
    i = skip_space(p, i, n)
    if i == n:
        return -1
    if first or p[i] == closer:
        return i
    if p[i] != c',':
        return -1
    i = skip_space(p, i + 1, n)
    # A comma before the bracket is no JSON.
    return i if i < n and p[i] != closer else -1


cdef Py_ssize_t read_types(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, UsualCall* call
) noexcept nogil:
    cdef Py_ssize_t start = i
    if i == n or p[i] != c'[':
        return -1
    i += 1
    while True:
        i = item_at(p, i, n, call.named == 0, c']')
        if i < 0:
            return -1
        if p[i] == c']':
            point_at(&call.types, p, start, i + 1)
            return i + 1
        i = text_end(p, i, n)
        if i < 0:
            return -1
        call.named += 1


cdef Py_ssize_t read_attachments(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, UsualCall* call
) noexcept nogil:
    cdef Py_ssize_t start = i
    cdef bint first = True
    if i == n or p[i] != c'{':
        return -1
    i += 1
    while True:
        i = item_at(p, i, n, first, c'}')
        if i < 0:
            return -1
        if p[i] == c'}':
            point_at(&call.attachments, p, start, i + 1)
            return i + 1
        first = False
        i = text_end(p, i, n)
        if i < 0:
            return -1
        i = skip_space(p, i, n)
        if i == n or p[i] != c':':
            return -1
        i = text_end(p, skip_space(p, i + 1, n), n)
        if i < 0:
            return -1


cdef bint names_surrogates(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Whether well-formed JSON may hold halves of surrogate pairs as escapes. Of these a closer
    look tells whether they are pairs, and whether the backslash is itself an escaped one."""
    cdef const uint8_t* end = p + n
    if memchr(p, c'\\', n) == NULL:
        return False
    while True:
        p = <const uint8_t*>memchr(p, c'u', end - p)
        if p == NULL:
            return False
        # A value does not begin with a letter u.
        if (p - 1)[0] == c'\\' and end - p > 2 and p[1] | LOWER == c'd' and p[2] >= c'8':
            return True
        p += 1


cdef Py_ssize_t read_arguments(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, UsualCall* call
) noexcept nogil:
    cdef Py_ssize_t end
    if i == n or p[i] != c'[':
        return -1
    i += 1
    while True:
        i = item_at(p, i, n, call.count == 0, c']')
        if i < 0:
            return -1
        if p[i] == c']':
            return i + 1
        if call.count == USUAL_ARGUMENTS_MAX:
            return -1
        end = json_typeless_end(<const char*>p, n, i)
        if end < 0 or names_surrogates(p + i, end - i):
            return -1
        point_at(&call.args[call.count], p, i, end)
        call.count += 1
        i = end


def usual_call(bytes body not None):
    """The usual call that ``body`` is, or None (for tests): the JSON of types, attachments and
    fields, group, version, arguments, and whether ``oneway``, ``envelope`` and ``class`` are asked
    for."""
    cdef UsualCall call
    if not read_usual_call(PyBytes_AS_STRING(body), len(body), &call):
        return None
    args = [bytes_of(&call.args[i]) for i in range(call.count)]
    return (
        bytes_of(&call.types), bytes_of(&call.attachments), bytes_of(&call.fields),
        bytes_of(&call.group), bytes_of(&call.version), args, bool(call.one_way),
        bool(call.envelope), bool(call.class_names),
    )


cdef bytes bytes_of(const Slice* slice):
    return None if slice.data == NULL else slice.data[:slice.length]
