from dragoman.wire.buffer cimport Buffer

cdef int write_hessian_string(Buffer out, const char* utf8, Py_ssize_t n) except -1
cdef Py_ssize_t hessian_string_to_utf8(
    const char* data, Py_ssize_t n, char* dst, Py_ssize_t* used
) noexcept nogil
