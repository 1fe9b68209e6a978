from libc.stdint cimport uint64_t

cdef uint64_t hash_of(bytes data) noexcept
cdef Py_ssize_t home(list candidates, bytes key) noexcept
