"""The replies to a batch, gathered for one future: a list in the order of the bodies.

``rpc.calls`` and ``cluster.calls`` each send batches in a way of their own and gather here.

Invariant: what long replies take until the last one has come is counted in the budget; then they
are the caller's.
"""

from dragoman.budget cimport Budget

from dragoman.errors import BatchError, OverloadError

# Shorter replies are retained in any case.
cdef Py_ssize_t SMALL_BYTES = 4096


cdef class BatchReplies:
    """What has come of a batch. ``future`` gets the list of replies, or BatchError, which has them
    and the errors by index.
    """

    def __cinit__(self, future, Py_ssize_t count, Budget budget not None):
        self.future = future
        self.budget = budget
        self.replies = [None] * count
        self.unanswered = count

    cdef bint admits(self, Py_ssize_t n) noexcept:
        """Whether a reply of ``n`` bytes may stay until the last one has come; if so it is counted.
        """
        if n <= SMALL_BYTES:
            return True
        if not self.budget.admits(n):
            return False
        self.budget.take(n)
        self.retained_bytes += n
        return True

    cdef object refusal(self, Py_ssize_t n, endpoint):
        """The error in place of a reply that is not admitted."""
        return OverloadError(
            f"no memory is left for a reply of {n} bytes until the others of its batch have come",
            endpoint=endpoint, retry_safe=False,
        )

    cdef int failed(self, Py_ssize_t i, error) except -1:
        """Request ``i`` has ended in ``error``."""
        if self.errors is None:
            self.errors = {}
        self.errors[i] = error
        return 0

    cdef int settle(self) except -1:
        """Every request has ended."""
        self._hand_over()
        if self.future.done():
            return 0
        if self.errors is None:
            self.future.set_result(self.replies)
        else:
            self.future.set_exception(BatchError(self.replies, self.errors))
        return 0

    cdef void drop(self) noexcept:
        """The caller has cancelled: what has come is nobody's."""
        self._hand_over()
        self.replies = None

    cdef void _hand_over(self) noexcept:
        self.budget.give(self.retained_bytes)
        self.retained_bytes = 0
