"""Looking through large JSON calls, a piece at a time, so that others are answered in between.

A connection adds a call whose body is longer than ``PIECE_BYTES``. Invariant: however many large
calls there are, one piece of one call is looked through, or joined to its payload, in a tick.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

from dragoman.agent.ingress.call cimport HttpCall, HttpCaller

from collections import deque

from dragoman.agent import contract
from dragoman.errors import DragomanError


cdef class LargeCalls:
    """The large calls of one loop, in the order in which they came. ``published`` is what
    ``contract.json_call`` is given."""

    def __init__(self, loop, published):
        self._loop = loop
        self._published = published
        self._calls = deque()

    cdef int add(self, HttpCall call, bytes path, bytes group, bytes version) except -1:
        """Have a call begun (``HttpCaller.begin_large``) when it has been looked through."""
        cdef LargeCall large = LargeCall.__new__(LargeCall)
        large.call = call
        large.path = path
        large.group = group
        large.version = version
        large.published = self._published
        large.outline = contract.outline_of(call.body_owner)
        self._calls.append(large)
        if len(self._calls) == 1:
            self._loop.call_soon(self._look)
        return 0

    def _look(self):
        cdef LargeCall large = self._calls[0]
        cdef bint over = True
        try:
            over = large.go_on()
        finally:
            if over:
                self._calls.popleft()
            if self._calls:
                self._loop.call_soon(self._look)


cdef class LargeCall:
    """A large call that is looked through and joined."""

    cdef bint go_on(self):
        """The next piece; whether that was the last."""
        cdef HttpCall call = self.call
        cdef HttpCaller connection = call.connection
        if connection is None:
            # Its client has left.
            return True
        try:
            if self.described is None:
                if contract.look(self.outline, PIECE_BYTES):
                    self.described = contract.json_call(
                        self.path, self.group, self.version, call.body_owner, self.published,
                        self.outline,
                    )
                    self._begin_join()
                return False
            if not self._join():
                return False
            connection.begin_large(call, self.described, self.payload)
        except DragomanError as error:
            connection.call_refused(call, error)
        return True

    cdef int _begin_join(self) except -1:
        cdef Py_ssize_t n = 0
        self.parts = deque(map(memoryview, self.described[3]))
        for part in self.parts:
            n += len(part)
        self.payload = PyBytes_FromStringAndSize(NULL, n)
        self.call.count(self.call.body_length + n)
        return 0

    cdef bint _join(self) except -1:
        """Copy a piece: memory that is new takes longer than the bytes. Whether it was the last."""
        cdef const unsigned char[::1] part
        cdef Py_ssize_t n, left = PIECE_BYTES
        while self.parts and left:
            part = self.parts[0]
            n = min(left, part.shape[0] - self.part_at)
            memcpy(PyBytes_AS_STRING(self.payload) + self.joined, &part[self.part_at], n)
            self.joined += n
            self.part_at += n
            left -= n
            if self.part_at == part.shape[0]:
                self.parts.popleft()
                self.part_at = 0
        return not self.parts
