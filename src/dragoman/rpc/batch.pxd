from dragoman.budget cimport Budget


cdef class BatchReplies:
    cdef readonly object future
    cdef Budget budget
    cdef list replies
    cdef dict errors
    cdef Py_ssize_t unanswered
    # Of its replies, counted in the budget.
    cdef size_t retained_bytes

    cdef bint admits(self, Py_ssize_t n) noexcept
    cdef object refusal(self, Py_ssize_t n, endpoint)
    cdef int failed(self, Py_ssize_t i, error) except -1
    cdef int settle(self) except -1
    cdef void drop(self) noexcept
    cdef void _hand_over(self) noexcept
