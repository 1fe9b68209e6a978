from libc.stdint cimport uint64_t

from dragoman.wire.buffer cimport Buffer

cdef int run_hessian2(
    Buffer out, uint64_t id, const char* body, Py_ssize_t n, const char* path
) except -1
