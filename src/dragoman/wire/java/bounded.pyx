"""What readers of Java's values have in common: a place in bytes, and how much may come of them.

``Hessian2Reader`` and ``JsonbReader`` are built on it. The invariants: what a peer sends is bounded
in depth, in containers and in costly keys of maps, and so memory and time are. Whatever is wrong is
a ProtocolError that names the byte; what is too much, a LimitError.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t

from dragoman.wire.java.bean cimport frozen_key

import sys

from dragoman.errors import LimitError, ProtocolError, UsageError

# Of whoever sets no bound.
cdef Py_ssize_t WEIGHTLESS = sys.maxsize

cdef enum:
    # Keys of maps whose hash a peer can choose (anything but text and 64-bit numbers): with more
    # of them, equal hashes would cost quadratic time.
    COSTLY_KEYS_MAX = 2000


cdef class BoundedReader:
    """Bytes that are read, and the bounds of what is made of them."""

    def __init__(
        self, data, *, bint exact=False, int depth_max=DEPTH, Py_ssize_t containers_max=CONTAINERS
    ):
        cdef bytes kept
        if not 1 <= depth_max <= 2000:
            raise UsageError(f"depth_max is 1 to 2000, not {depth_max}")
        if containers_max < 0:
            raise UsageError(f"containers_max is no less than 0, not {containers_max}")
        kept = data if isinstance(data, bytes) else bytes(memoryview(data))
        self.start(
            kept, <const uint8_t*>PyBytes_AS_STRING(kept), len(kept), exact, depth_max,
            containers_max
        )

    cdef int start(
        self, object owner, const uint8_t* data, Py_ssize_t n, bint exact, int depth_max,
        Py_ssize_t containers_max
    ) except -1:
        """Begin with ``data[:n]``, which ``owner`` keeps alive (for compiled callers)."""
        self.owner = owner
        self.data = data
        self.n = n
        self.at = 0
        self.exact = self.typed = exact
        self.depth = 0
        self.depth_max = depth_max
        self.containers_max = containers_max
        self.containers_left = containers_max
        self.costly_keys = 0
        self.weight_left = WEIGHTLESS
        return 0

    @property
    def at_end(self):
        """Whether all has been read."""
        return self.at >= self.n

    cdef object bad(self, str what, Py_ssize_t at):
        raise ProtocolError(f"{self.format}: {what} at byte {at}")

    cdef object cut(self, str what):
        raise ProtocolError(f"{self.format}: {what} is cut short at byte {self.n}")

    cdef int weigh(self, int more) except -1:
        """Count what takes longer than a number does."""
        self.weight_left -= more
        if self.weight_left < 0:
            raise LimitError(
                f"{self.format}: more values than are taken in one call by byte {self.at}"
            )
        return 0

    cdef int enter(self, Py_ssize_t at) except -1:
        """Count a container that begins at ``at``."""
        if self.containers_left <= 0:
            raise LimitError(
                f"{self.format}: more than {self.containers_max} lists, maps and objects"
                f" at byte {at}"
            )
        self.containers_left -= 1
        return self.weigh(CONTAINER_WEIGHT)

    cdef int too_deep(self, Py_ssize_t at) except -1:
        """Refuse a value that nests too deep."""
        raise LimitError(f"{self.format}: nested deeper than {self.depth_max} at byte {at}")

    cdef object key_of(self, object key, Py_ssize_t at):
        """A key of a map that is no text, as Python can have it."""
        if isinstance(key, int) and -0x8000000000000000 <= key <= 0x7FFFFFFFFFFFFFFF:
            return key
        self.costly_keys += 1
        if self.costly_keys > COSTLY_KEYS_MAX:
            raise LimitError(
                f"{self.format}: more than {COSTLY_KEYS_MAX} keys of maps that are neither text"
                f" nor a number of 64 bits at byte {at}"
            )
        try:
            return frozen_key(key)
        except TypeError as error:
            raise LimitError(f"{self.format}: a map's key {error} at byte {at}") from None
