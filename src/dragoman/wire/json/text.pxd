from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.string cimport Slice

cdef enum:
    JSON_DEPTH_MAX = 128
    JSON_NUMBER_BYTES_MAX = 1024

cdef int write_json_line(Buffer out, const char* json, Py_ssize_t n) except -1
cdef Py_ssize_t json_value_end(const char* json, Py_ssize_t n, Py_ssize_t start) noexcept nogil
cdef Py_ssize_t json_typeless_end(const char* json, Py_ssize_t n, Py_ssize_t start) noexcept nogil
cdef int json_check(const char* json, Py_ssize_t n, Slice* value) noexcept nogil
cdef int json_check_loose(const char* json, Py_ssize_t n, Slice* value) noexcept nogil
cdef int json_names_a_type(const char* json, Py_ssize_t n) noexcept nogil
cdef int json_commands_fastjson(const char* json, Py_ssize_t n) noexcept nogil
cdef int write_json_without_class(Buffer out, const char* json, Py_ssize_t n) except -1
