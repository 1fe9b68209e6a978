from libc.stdint cimport int32_t

cdef int32_t java_hash_utf8(const char* utf8, Py_ssize_t n) noexcept nogil
cdef int32_t java_hash_json(const char* json, Py_ssize_t n) noexcept nogil
