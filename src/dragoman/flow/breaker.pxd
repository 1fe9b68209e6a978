from libc.stdint cimport int64_t


cdef class Breaker:
    cdef readonly bint open
    cdef readonly int failures
    cdef readonly int trips
    cdef bint probing
    cdef int _threshold
    cdef int64_t _retry_us
    cdef int64_t _pause_us
    cdef int64_t _pause_least_us
    cdef int64_t _pause_most_us

    cdef inline void success(self) noexcept:
        self.failures = 0
        if self.open:
            self.open = False
            self.probing = False
            self._pause_us = self._pause_least_us

    cdef bint failure(self, int64_t now_us) noexcept
    cdef void trip(self, int64_t now_us) noexcept
    cdef void trip_briefly(self, int64_t now_us, int64_t pause_us) noexcept
    cdef bint allows(self, int64_t now_us) noexcept


cdef class RetryBudget:
    cdef double _tokens
    cdef double _most
    cdef double _ratio

    cdef inline void deposit(self) noexcept:
        self._tokens += self._ratio
        if self._tokens > self._most:
            self._tokens = self._most

    cdef bint withdraw(self) noexcept
    cdef bint borrow(self) noexcept
