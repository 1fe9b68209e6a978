cdef class Budget:
    cdef readonly size_t bytes_max
    cdef readonly size_t used
    cdef readonly size_t most
    cdef readonly size_t refused

    cdef bint admits(self, size_t n) noexcept
    cdef bint admits_begun(self, size_t n) noexcept
    cdef void take(self, size_t n) noexcept
    cdef void give(self, size_t n) noexcept
    cdef double pressure(self) noexcept


cpdef Budget process_budget()
