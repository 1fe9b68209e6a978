"""A provider's limit, found from its rejections (``--limit auto``) or shared with others.

``dubbo.upstream.egress`` tells of each answer and each rejection for a full pool; the limit of the
credit pool follows. Invariant: the limit is between 1 and ``limit_max``.
"""

cdef enum:
    PATIENCE_MAX = 1024

# How long a limit that was found to be too high is not tried again, at first and at most.
cdef int64_t HOLD_US = 100_000
cdef int64_t HOLD_US_MAX = 1_600_000


cdef class LearnedLimit:
    """The limit of ``pool``.

    Alone with the provider (not ``sharing``) it grows until the first rejection by an eighth
    whenever it has been used in full for as many replies; from then on by one, after twice as many
    replies each time.

    With ``sharing`` several processes call the provider, and none can keep its limit for all of
    them. On a rejection this one's limit falls by an eighth of what it has there; those that were
    sent before that, and are rejected too, say nothing new. Whenever it has been used in full for
    as many replies it grows by a little of what is missing to ``limit_max``, but what was too high
    is not tried again for a while, longer each time. So all of them come to similar shares, with
    few rejections.
    """

    def __init__(self, CreditPool pool not None, Wheel wheel not None, bint sharing, int limit_max):
        self.pool = pool
        self.wheel = wheel
        self.sharing = sharing
        self.limit_max = limit_max
        self._patience = 1

    cdef void answered(self, Py_ssize_t in_progress):
        """The provider has answered one of the ``in_progress`` calls."""
        cdef int limit = self.pool.limit
        if self.sharing:
            self._share_answered()
            return
        if in_progress < limit or limit >= self.limit_max:
            return
        self._full_use += 1
        if self._full_use < <int64_t>limit * self._patience:
            return
        self._full_use = 0
        self._set(limit + (1 if self._was_rejected else max(1, limit // 8)))

    cdef void rejected(self, Py_ssize_t in_progress, int64_t sent_us):
        """The provider's pool was full for one of the ``in_progress`` calls, which was sent then.
        """
        if self.sharing:
            self._share_rejected(sent_us)
            return
        if self._full_use:
            self._patience = min(self._patience * 2, PATIENCE_MAX)
        self._was_rejected = True
        self._full_use = 0
        # What is still there, but for this one, fitted.
        self._set(max(1, min(self.pool.limit - 1, <int>in_progress - 1)))

    cdef void _share_answered(self):
        cdef int limit = self.pool.limit, grown
        if self.pool.in_use < limit or limit >= self.limit_max:
            return
        self._full_use += 1
        if self._full_use < limit:
            return
        if (
            limit + 1 == self._ceiling
            and self.wheel.clock_us() < self._lowered_us + self._hold_us
        ):
            return
        self._full_use = 0
        grown = limit + max(1, (self.limit_max - limit) // 32)
        self._set(self._ceiling - 1 if limit + 1 < self._ceiling <= grown else grown)

    cdef void _share_rejected(self, int64_t sent_us):
        cdef int limit
        self._full_use = 0
        if sent_us <= self._lowered_us:
            return
        limit = max(1, min(self.pool.limit, self.pool.in_use))
        if self._ceiling <= limit <= self._ceiling + self._ceiling // 8:
            self._hold_us = min(self._hold_us * 2, HOLD_US_MAX)
        else:
            self._hold_us = HOLD_US
        self._lowered_us = self.wheel.clock_us()
        self._ceiling = limit
        self._set(max(1, limit * 7 // 8))

    cdef void _set(self, int limit):
        if limit != self.pool.limit:
            self.pool.set_limit(limit)
