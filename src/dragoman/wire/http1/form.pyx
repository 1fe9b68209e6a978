"""Form bodies: application/x-www-form-urlencoded (WHATWG URL standard, section 5), strictly.

The consumer agent looks up one field to route by; the provider agent reads the fields it knows, in
any order. Fields are found in place, nothing is allocated. Unknown fields are passed over; a known
field that comes twice makes the form ambiguous and is refused, as is a malformed escape. Empty
pieces (``a=1&&b=2``) are passed over; a piece without ``=`` is a name with an empty value.

The invariant: a decoded value is never longer than its encoded form, so ``decode`` may work in
place.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from dragoman.errors import ProtocolError

from dragoman.wire.http1.tables cimport HEX

cdef extern from *:
    """
    /* What a serializer leaves as it is: alphanumerics and * - . _ ; a space becomes +. */
    static const unsigned char DRAGOMAN_PLAIN[256] = {
        ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
        ['*'] = 1, ['-'] = 1, ['.'] = 1, ['_'] = 1, [' '] = 1,
    };
    """
    const unsigned char PLAIN "DRAGOMAN_PLAIN"[256]

cdef uint64_t TOP_BITS = 0x8080808080808080ULL


cdef void begin_form(FormCursor* cursor, const char* body, Py_ssize_t n) noexcept nogil:
    """Point ``cursor`` at the first field of a body."""
    cursor.at = body
    cursor.end = body + n


cdef bint next_field(FormCursor* cursor, FormField* field) noexcept nogil:
    """Describe the next field in place; False at the end."""
    cdef const char* p = cursor.at
    cdef const char* stop
    cdef const char* equals
    while p < cursor.end and p[0] == c'&':
        p += 1
    if p >= cursor.end:
        cursor.at = cursor.end
        return False
    stop = <const char*>memchr(p, c'&', cursor.end - p)
    if stop == NULL:
        stop = cursor.end
    equals = <const char*>memchr(p, c'=', stop - p)
    if equals == NULL:
        equals = stop
    field.name = p
    field.name_length = equals - p
    field.name_encoded = is_encoded(p, equals - p)
    field.value = equals if equals == stop else equals + 1
    field.value_length = stop - field.value
    field.value_encoded = is_encoded(field.value, field.value_length)
    cursor.at = stop
    return True


cdef inline bint is_encoded(const char* p, Py_ssize_t n) noexcept nogil:
    return n > 0 and (memchr(p, c'%', n) != NULL or memchr(p, c'+', n) != NULL)


cdef Py_ssize_t decode(const char* source, Py_ssize_t n, char* to) noexcept nogil:
    """Decode ``%XX`` and ``+`` into ``to`` (room for ``n``.

    May be ``source``). -1: a malformed escape.
    """
    cdef const unsigned char* p = <const unsigned char*>source
    cdef const unsigned char* stop = p + n
    cdef unsigned char* out = <unsigned char*>to
    cdef unsigned char c
    while p < stop:
        c = p[0]
        p += 1
        if c == c'+':
            c = c' '
        elif c == c'%':
            if stop - p < 2 or not HEX[p[0]] or not HEX[p[1]]:
                return -1
            c = <unsigned char>((HEX[p[0]] - 1) << 4 | (HEX[p[1]] - 1))
            p += 2
        out[0] = c
        out += 1
    return out - <unsigned char*>to


cdef bint is_name(const FormField* field, const char* name, Py_ssize_t n) noexcept nogil:
    """Whether the field's decoded name is the ``n`` bytes at ``name`` (at most 64)."""
    cdef char plain[192]
    if not field.name_encoded:
        return field.name_length == n and memcmp(field.name, name, n) == 0
    if field.name_length > 3 * n or field.name_length > <Py_ssize_t>sizeof(plain):
        return False
    return decode(field.name, field.name_length, plain) == n and memcmp(plain, name, n) == 0


cdef int find_field(
    const char* body, Py_ssize_t n, const char* name, Py_ssize_t name_length, FormField* field
) noexcept nogil:
    """Find the field called ``name``.

    1 found, 0 absent, FORM_REPEATED; its value is not decoded.
    """
    cdef FormCursor cursor
    cdef FormField candidate
    cdef int found = 0
    begin_form(&cursor, body, n)
    while next_field(&cursor, &candidate):
        if is_name(&candidate, name, name_length):
            if found:
                return FORM_REPEATED
            found = 1
            field[0] = candidate
    return found


cdef int read_known_fields(
    const char* body,
    Py_ssize_t n,
    const char** names,
    const Py_ssize_t* name_lengths,
    int known,
    int fields_max,
    FormField* fields,
) noexcept nogil:
    """Describe the known fields in ``fields``, in the order of ``names``; absent ones have a NULL
    ``value``.

    Returns how many were found, or FORM_REPEATED (a known one came twice), FORM_TOO_MANY (over
    ``fields_max`` fields of any name) or FORM_MALFORMED (a bad escape in a name).
    """
    cdef FormCursor cursor
    cdef FormField candidate
    cdef int count = 0
    cdef int found = 0
    cdef int i
    memset(fields, 0, known * sizeof(FormField))
    begin_form(&cursor, body, n)
    while next_field(&cursor, &candidate):
        count += 1
        if count > fields_max:
            return FORM_TOO_MANY
        if candidate.name_encoded and not valid_escapes(candidate.name, candidate.name_length):
            return FORM_MALFORMED
        for i in range(known):
            if is_name(&candidate, names[i], name_lengths[i]):
                if fields[i].value != NULL:
                    return FORM_REPEATED
                fields[i] = candidate
                found += 1
                break
    return found


cdef bint valid_escapes(const char* source, Py_ssize_t n) noexcept nogil:
    """Whether ``decode`` would take it."""
    cdef const unsigned char* p = <const unsigned char*>source
    cdef Py_ssize_t i = 0
    while i < n:
        if p[i] == c'%':
            if n - i < 3 or not HEX[p[i + 1]] or not HEX[p[i + 2]]:
                return False
            i += 2
        i += 1
    return True


cdef bint valid_utf8(const char* source, Py_ssize_t n) noexcept nogil:
    """Whether it is UTF-8 (RFC 3629).

    Shortest forms only, no surrogates, nothing above U+10FFFF.
    """
    cdef const unsigned char* p = <const unsigned char*>source
    cdef const unsigned char* stop = p + n
    cdef uint64_t eight
    cdef unsigned char c
    cdef unsigned char low
    cdef unsigned char high
    cdef int more
    while p < stop:
        if stop - p >= 8:
            memcpy(&eight, p, 8)
            if not eight & TOP_BITS:
                p += 8
                continue
        c = p[0]
        p += 1
        if c < 0x80:
            continue
        low = 0x80
        high = 0xBF
        if c < 0xC2:
            return False
        if c < 0xE0:
            more = 1
        elif c < 0xF0:
            more = 2
            if c == 0xE0:
                low = 0xA0
            elif c == 0xED:
                high = 0x9F
        elif c < 0xF5:
            more = 3
            if c == 0xF0:
                low = 0x90
            elif c == 0xF4:
                high = 0x8F
        else:
            return False
        if stop - p < more or p[0] < low or p[0] > high:
            return False
        p += 1
        while more > 1:
            if p[0] & 0xC0 != 0x80:
                return False
            p += 1
            more -= 1
    return True


cdef Py_ssize_t encoded_length(const char* source, Py_ssize_t n) noexcept nogil:
    """How many bytes ``encode`` will write."""
    cdef const unsigned char* p = <const unsigned char*>source
    cdef Py_ssize_t length = n
    cdef Py_ssize_t i
    for i in range(n):
        if not PLAIN[p[i]]:
            length += 2
    return length


cdef Py_ssize_t encode(const char* source, Py_ssize_t n, char* to) noexcept nogil:
    """Encode into ``to`` (room for ``encoded_length``, at most 3 n) and return the length."""
    cdef const unsigned char* p = <const unsigned char*>source
    cdef const char* digits = b"0123456789ABCDEF"
    cdef char* out = to
    cdef Py_ssize_t i
    for i in range(n):
        if p[i] == c' ':
            out[0] = c'+'
            out += 1
        elif PLAIN[p[i]]:
            out[0] = <char>p[i]
            out += 1
        else:
            out[0] = c'%'
            out[1] = digits[p[i] >> 4]
            out[2] = digits[p[i] & 15]
            out += 3
    return out - to


# -- for Python


cdef bytes decoded(const char* source, Py_ssize_t n):
    cdef bytes result = PyBytes_FromStringAndSize(NULL, n)
    cdef Py_ssize_t length = decode(source, n, PyBytes_AS_STRING(result))
    if length < 0:
        raise ProtocolError(f"a form has a malformed escape in {source[:n][:64]!r}")
    return result[:length]


def parse_form(bytes body not None, *, int fields_max=64):
    """All fields in order, decoded, as pairs of bytes. Raises ``ProtocolError``."""
    cdef FormCursor cursor
    cdef FormField field
    cdef list fields = []
    begin_form(&cursor, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
    while next_field(&cursor, &field):
        if len(fields) == fields_max:
            raise ProtocolError(f"a form has more than {fields_max} fields")
        fields.append(
            (decoded(field.name, field.name_length), decoded(field.value, field.value_length))
        )
    return fields


def known_fields(bytes body not None, tuple names not None, *, int fields_max=64):
    """The decoded values of up to 16 known fields, in the order of ``names``; None for an absent
    one.

    Raises ``ProtocolError`` for a known field that comes twice, a malformed escape or too many
    fields.
    """
    cdef const char* pointers[16]
    cdef Py_ssize_t lengths[16]
    cdef FormField fields[16]
    cdef int known = len(names)
    cdef int i
    cdef int found
    if known > 16 or any(len(name) > 64 for name in names):
        raise ValueError("at most 16 names of at most 64 bytes")
    for i in range(known):
        pointers[i] = PyBytes_AS_STRING(names[i])
        lengths[i] = PyBytes_GET_SIZE(names[i])
    found = read_known_fields(
        PyBytes_AS_STRING(body),
        PyBytes_GET_SIZE(body),
        pointers,
        lengths,
        known,
        fields_max,
        fields,
    )
    if found == FORM_REPEATED:
        raise ProtocolError("a form field is repeated")
    if found == FORM_TOO_MANY:
        raise ProtocolError(f"a form has more than {fields_max} fields")
    if found == FORM_MALFORMED:
        raise ProtocolError("a form has a malformed escape in a field's name")
    return tuple(
        [
            decoded(fields[i].value, fields[i].value_length) if fields[i].value != NULL else None
            for i in range(known)
        ]
    )


def raw_field(bytes body not None, bytes name not None):
    """The value of one field as it stands, not decoded.

    None if absent; ``ProtocolError`` if repeated.
    """
    cdef FormField field
    cdef int found = find_field(
        PyBytes_AS_STRING(body),
        PyBytes_GET_SIZE(body),
        PyBytes_AS_STRING(name),
        PyBytes_GET_SIZE(name),
        &field,
    )
    if found == FORM_REPEATED:
        raise ProtocolError(f"the form field {name!r} is repeated")
    return field.value[:field.value_length] if found else None


def is_utf8(bytes text not None):
    """Whether the bytes are valid UTF-8."""
    return valid_utf8(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


def encode_form(fields):
    """A form body from pairs of ``bytes`` or ``str`` (as UTF-8)."""
    cdef list pieces = []
    cdef bytes text
    cdef bytes piece
    for pair in fields:
        for item in pair:
            text = item.encode("utf-8") if isinstance(item, str) else item
            piece = PyBytes_FromStringAndSize(
                NULL, encoded_length(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
            )
            encode(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), PyBytes_AS_STRING(piece))
            pieces.append(piece)
    return b"&".join([b"=".join(pieces[i : i + 2]) for i in range(0, len(pieces), 2)])
