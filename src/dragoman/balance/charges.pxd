from libc.stdint cimport int64_t


cdef class Charges:
    cdef readonly int count
    cdef int64_t* _until
    cdef int _capacity

    cdef void add(self, int64_t until_us) noexcept
    cdef int expire(self, int64_t now_us) noexcept
