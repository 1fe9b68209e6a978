"""Calls that have ended, and count for the balance as though they were under way for a while yet.

Whoever fails fast has few calls under way, and would be given more than those who do the work. So a
call that ended with an exception counts until the time that such calls usually take has passed, and
one that was rejected or lost until the longest has. Time is passed in. Used by ``cluster``.

Invariant: a charge counts until its time, in whatever order they came; at most ``CHARGES_MAX`` are
kept, and then no more are taken: whoever has so many gets nothing anyway.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

cdef int CHARGES_MAX = 4096


cdef class Charges:
    """A heap of the times until which charges count."""

    def __dealloc__(self):
        free(self._until)

    cdef void add(self, int64_t until_us) noexcept:
        """A call has ended, and counts until then."""
        cdef int64_t* grown
        cdef int i, parent
        if self.count == self._capacity:
            if self.count >= CHARGES_MAX:
                return
            i = self._capacity * 2 if self._capacity else 16
            grown = <int64_t*>realloc(self._until, i * sizeof(int64_t))
            if grown == NULL:
                # One that does not count: the balance is a little off.
                return
            self._until = grown
            self._capacity = i
        i = self.count
        self.count += 1
        while i > 0:
            parent = (i - 1) // 2
            if self._until[parent] <= until_us:
                break
            self._until[i] = self._until[parent]
            i = parent
        self._until[i] = until_us

    cdef int expire(self, int64_t now_us) noexcept:
        """Forget those whose time has come; how many are left."""
        cdef int64_t last
        cdef int i, child
        while self.count and self._until[0] <= now_us:
            self.count -= 1
            last = self._until[self.count]
            i = 0
            while True:
                child = 2 * i + 1
                if child >= self.count:
                    break
                if child + 1 < self.count and self._until[child + 1] < self._until[child]:
                    child += 1
                if self._until[child] >= last:
                    break
                self._until[i] = self._until[child]
                i = child
            self._until[i] = last
        return self.count

    def charge(self, int64_t until_us):
        """``add`` for Python callers."""
        self.add(until_us)

    def left(self, int64_t now_us):
        """``expire`` for Python callers."""
        return self.expire(now_us)
