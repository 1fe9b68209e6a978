"""How many bytes are held for peers: half arrived, in progress, waiting to be sent.

A ``Budget`` counts the memory that peers can make a process hold, where it is allocated and before:
the bodies that decoders put together, bodies of requests until they are answered, the buffers that
connections write into, and what their transports could not send yet. A part that is about to hold
more for a peer asks ``admits`` first, and refuses the request, or throws the body away as it comes,
when that says no; what cannot be refused (a few bytes of protocol, what has been encoded already)
is taken all the same. The process has one (``process_budget``), which the agents bound by their
``--memory-mib-max``; a server may have one of its own.

What has only begun to arrive stays as long as its sender likes, so it leaves room for others:
beyond ``BEGUN_UNTIL`` of the bound no more of it is admitted (``admits_begun``), which is below
where small requests are shed.

Invariant: whoever takes gives back the same, when the memory is freed or handed on to who counts
it.
"""

# As for the process's memory: below this part all is well, from the other on nothing more is taken.
cdef double SHED_FROM = 0.85
cdef double REFUSE_FROM = 0.95
# The part that what has half arrived may fill.
cdef double BEGUN_UNTIL = 0.75


cdef class Budget:
    """Bytes held, and how many may be; ``bytes_max`` 0: no bound, but counted."""

    def __cinit__(self, bytes_max=0):
        self.limit(bytes_max)

    def limit(self, bytes_max):
        """From now on admit what fits ``bytes_max``; 0: everything."""
        if bytes_max < 0:
            raise ValueError(f"a budget's bytes_max must be 0 or more, not {bytes_max}")
        self.bytes_max = bytes_max

    cdef bint admits(self, size_t n) noexcept:
        """Whether ``n`` bytes more may be held."""
        if self.bytes_max == 0 or self.used + n <= self.bytes_max:
            return True
        self.refused += 1
        return False

    cdef bint admits_begun(self, size_t n) noexcept:
        """``admits`` for what has half arrived, and may never come whole."""
        if self.bytes_max == 0 or self.used + n <= <size_t>(BEGUN_UNTIL * self.bytes_max):
            return True
        self.refused += 1
        return False

    cdef void take(self, size_t n) noexcept:
        """``n`` bytes more are held."""
        self.used += n
        if self.used > self.most:
            self.most = self.used

    cdef void give(self, size_t n) noexcept:
        """``n`` bytes are held no longer."""
        self.used -= n

    def hold(self, size_t n):
        """Take ``n`` bytes if they may be held; whether they are. For callers in Python."""
        if not self.admits(n):
            return False
        self.take(n)
        return True

    def let_go(self, size_t n):
        """Give back what ``hold`` took."""
        self.give(n)

    cdef double pressure(self) noexcept:
        """The proportion of new requests that is to be refused, 0.0 to 1.0."""
        cdef double part
        if self.bytes_max == 0:
            return 0.0
        part = <double>self.used / <double>self.bytes_max
        if part < SHED_FROM:
            return 0.0
        if part >= REFUSE_FROM:
            return 1.0
        return (part - SHED_FROM) / (REFUSE_FROM - SHED_FROM)


cdef Budget _of_process = Budget()


cpdef Budget process_budget():
    """The budget of this process, for all but what servers with budgets of their own hold."""
    return _of_process
