"""Circuit breaker and retry budget: what keeps a fault from spreading.

A breaker opens after a number of failures in a row, or when it is tripped by an observer (an
endpoint that has gone silent). While open it lets one probe through per pause; the pause doubles up
to a bound (1 s: an endpoint that has recovered is back within it), and any success closes it. A
retry budget allows retries as a proportion of requests, so that retries never become the load. Time
is passed in. Called by ``cluster``.
"""

from libc.stdint cimport int64_t

# How many retries may be owed.
cdef double DEBT_MAX = 256.0


cdef class Breaker:
    """``threshold`` failures in a row open it; the first probe goes ``pause_ms`` later."""

    def __cinit__(self, int threshold=5, int pause_ms=500, int pause_most_ms=1000):
        self._threshold = threshold
        self._pause_least_us = pause_ms * 1000
        self._pause_most_us = pause_most_ms * 1000
        self._pause_us = self._pause_least_us

    cdef bint failure(self, int64_t now_us) noexcept:
        """A request failed; True when that opened the breaker."""
        self.failures += 1
        if self.open:
            if self.probing:
                self.trip(now_us)
            return False
        if self.failures >= self._threshold:
            self.trip(now_us)
            return True
        return False

    cdef void trip(self, int64_t now_us) noexcept:
        """Open (or, after a failed probe, stay open for longer)."""
        if self.open:
            self._pause_us = min(self._pause_us * 2, self._pause_most_us)
        else:
            self.trips += 1
        self.open = True
        self.probing = False
        self._retry_us = now_us + self._pause_us

    cdef void trip_briefly(self, int64_t now_us, int64_t pause_us) noexcept:
        """``trip``; if it was closed, the first pause is ``pause_us``: probes cost the other side
        little.
        """
        if not self.open:
            self._pause_us = pause_us
        elif not self.probing:
            return
        self.trip(now_us)

    cdef bint allows(self, int64_t now_us) noexcept:
        """Whether a request may go; when open, True at most once a pause, for the probe."""
        if not self.open:
            return True
        if now_us < self._retry_us:
            return False
        # A probe that never ends must not keep the breaker open for ever: the next pause brings
        # another.
        self.probing = True
        self._retry_us = now_us + self._pause_us
        return True

    def record(self, bint succeeded, int64_t now_us):
        """``success`` or ``failure`` for Python callers."""
        if succeeded:
            self.success()
        else:
            self.failure(now_us)

    def may(self, int64_t now_us):
        """``allows`` for Python callers."""
        return self.allows(now_us)


cdef class RetryBudget:
    """Retries may be ``ratio`` of the requests, with a reserve of ``reserve``."""

    def __cinit__(self, double ratio=0.1, double reserve=20.0):
        self._ratio = ratio
        self._most = reserve
        self._tokens = reserve

    cdef bint withdraw(self) noexcept:
        """Take one retry out of the budget; False when it is spent."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    cdef bint borrow(self) noexcept:
        """Take one retry that finds a place for certain, on credit if the budget is spent: a burst
        of rejections costs no call, and all in all the proportion holds.
        """
        if self._tokens < 1.0 - DEBT_MAX:
            return False
        self._tokens -= 1.0
        return True

    def spend(self):
        """``withdraw`` for Python callers."""
        return self.withdraw()

    def earn(self):
        """``deposit`` for Python callers."""
        self.deposit()
