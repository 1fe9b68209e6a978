"""Bytes of a known length that are filled as they arrive, in any number of pieces.

``dubbo.upstream.transcoder`` receives what is large into a ``Room``: no piece is kept, and nothing
is joined at the end, which would take a loop as long as all the pieces together. The invariant:
nobody sees the bytes before they are whole, and from then on nobody writes to them.
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory

from dragoman.errors import UsageError


cdef class Room:
    """Room for ``length`` bytes, which must be at least one. The memory is taken as it fills."""

    cdef bytes _made
    cdef Py_ssize_t _length
    cdef Py_ssize_t _filled

    def __init__(self, Py_ssize_t length):
        if length < 1:
            raise UsageError(f"a room of at least 1 byte was expected, not of {length}")
        # Nobody else has it before it is whole.
        self._made = PyBytes_FromStringAndSize(NULL, length)
        self._length = length

    def rest(self):
        """The part not filled yet, from its beginning. Valid until ``fill`` and ``take``, and as
        long as the room is there; not to be used when it is whole."""
        if self._made is None or self._filled == self._length:
            raise UsageError("there is nothing to be filled")
        return PyMemoryView_FromMemory(
            PyBytes_AS_STRING(self._made) + self._filled, self._length - self._filled, PyBUF_WRITE
        )

    def fill(self, Py_ssize_t n):
        """So many bytes more have been written to ``rest``; whether it is whole."""
        if n < 0 or n > self._length - self._filled:
            raise UsageError(f"{n} bytes do not fit in {self._length - self._filled}")
        self._filled += n
        return self._filled == self._length

    def take(self):
        """The bytes, which are whole. The room is of no use from then on."""
        made = self._made
        if made is None or self._filled != self._length:
            raise UsageError("the bytes are not whole, or have been taken")
        self._made = None
        self._filled = self._length = 0
        return made
