"""The contest's form: the four fields of a call, in whatever order they come.

``dubbo.upstream.encode_request`` makes requests of them; the fields are in ``docs/http.md``. What
is wrong with a form raises UsageError.
"""

from dragoman.wire.http1.form cimport (
    FORM_REPEATED, FORM_TOO_MANY, FormField, decode, read_known_fields,
)

from dragoman.errors import UsageError

cdef enum:
    FORM_FIELDS_MAX = 64

cdef const char* FIELD_NAMES[4]
FIELD_NAMES[:] = ["interface", "method", "parameterTypesString", "parameter"]
cdef Py_ssize_t FIELD_LENGTHS[4]
FIELD_LENGTHS[:] = [9, 6, 20, 9]


cdef int read_form(const char* body, Py_ssize_t n, Buffer scratch, Slice* values) except -1:
    """Read interface, method, parameterTypesString and parameter into ``values``: in ``body``, or
    decoded in ``scratch``. The types are empty and the parameter is NULL if they are not there."""
    cdef FormField fields[4]
    cdef Py_ssize_t decoded
    cdef size_t room = 0
    cdef char* at
    cdef int found, i
    found = read_known_fields(body, n, FIELD_NAMES, FIELD_LENGTHS, 4, FORM_FIELDS_MAX, fields)
    if found < 0:
        raise UsageError(_problem(found))
    for i in range(4):
        if fields[i].value == NULL and i != 3 and i != 2:
            raise UsageError(f"the form field {(<bytes>FIELD_NAMES[i]).decode()} is missing")
        if fields[i].value_encoded:
            room += fields[i].value_length
    scratch.clear()
    at = scratch.reserve(room + 1)
    for i in range(4):
        values[i].data = fields[i].value
        values[i].length = fields[i].value_length
        if fields[i].value_encoded:
            decoded = decode(fields[i].value, fields[i].value_length, at)
            if decoded < 0:
                raise UsageError(
                    f"the form field {(<bytes>FIELD_NAMES[i]).decode()} holds a malformed escape"
                )
            values[i].data = at
            values[i].length = decoded
            at += decoded
    if values[2].data == NULL:
        values[2].data = b""
    return 0


def _problem(int code):
    if code == FORM_REPEATED:
        return "a form field is repeated"
    if code == FORM_TOO_MANY:
        return f"a form of more than {FORM_FIELDS_MAX} fields"
    return "the form is malformed"
