from dragoman.wire.buffer cimport Buffer

# Borrowed bytes: whoever fills a Slice keeps the memory alive. data == NULL means absent (JSON
# null).
cdef struct Slice:
    const char* data
    Py_ssize_t length

# Outcomes here and in ``json.text``.
# Positive: refused, nothing written. Negative: a Python exception.
cdef enum:
    JSON_OK = 0
    JSON_BAD_UTF8 = 1
    JSON_BAD = 2
    JSON_TOO_DEEP = 3
    JSON_NUMBER_TOO_LONG = 4
    JSON_LONE_SURROGATE = 5
    JSON_TYPE_NAMED = 6
    JSON_REFERENCE_NAMED = 7

cdef int write_json_string(Buffer out, const char* utf8, Py_ssize_t n) except -1
cdef Py_ssize_t json_string_to_utf8(const char* json, Py_ssize_t n, char* dst) noexcept nogil
cdef bint json_equals(
    const char* json, Py_ssize_t n, const char* utf8, Py_ssize_t m
) noexcept nogil
cdef const char* json_problem(int code) noexcept nogil
