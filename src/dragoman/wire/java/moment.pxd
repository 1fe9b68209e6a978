from libc.stdint cimport int64_t

cdef object moment_of(int64_t ms)
