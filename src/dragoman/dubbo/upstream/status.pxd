cdef bint is_retry_safe(int code) noexcept
cdef int code_of_status(int status, str why)
cdef str without_call(str why)
