"""Large bodies in pieces: what waits to be sent of them, and how they are put together again.

A session sends its bodies one after the other, a piece at a time as the kernel takes it, and all
other frames between the pieces (``session``). The specification is ``docs/formats/mesh.md``.

Invariants: at most one body in each direction is in the middle of its pieces; bodies leave in the
order in which they were added; a body counts in the budget for what is left of it here, and at the
receiver for what has come of it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.mesh cimport (
    F_METADATA, F_ORDER, F_PIECE, F_REQUEST, HEADER_BYTES, put_header, write_frame,
)

from collections import OrderedDict

from dragoman.errors import ProtocolError

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject** string, Py_ssize_t size) except -1

cdef uint32_t TIMEOUT_MS_NONE = 0xFFFFFFFF


cdef class Body:
    """A request or a reply whose body waits to be sent, or is being sent."""


cdef class Outgoing:
    """The bodies that one session has to send, first come, first served."""

    def __cinit__(self, Budget budget):
        self._line = OrderedDict()
        self._keys = {}
        self.budget = budget
        self.piece_bytes = PIECE_BYTES_LEAST

    cdef int add(self, Body body) except -1:
        """``body`` is the last in line; its id must not be in it."""
        self._line[body.id] = body
        self.count += 1
        self.bytes += PyBytes_GET_SIZE(body.body)
        self.budget.take(PyBytes_GET_SIZE(body.body))
        if body.order_key is not None:
            self._keys[body.order_key] = self._keys.get(body.order_key, 0) + 1
        return 0

    cdef bint has(self, uint32_t id):
        """Whether the body of this id has not been sent whole."""
        return id in self._line

    cdef bint orders(self, bytes order_key):
        """Whether a body with this order key waits, so that others with it must wait behind it."""
        return order_key in self._keys

    cdef bint withdraw(self, uint32_t id) except -1:
        """The body of this id is not to be sent, or not further. Whether it was in line."""
        cdef Body body = self._line.get(id)
        if body is None:
            return False
        self.bytes -= PyBytes_GET_SIZE(body.body) - body.sent
        self.budget.give(PyBytes_GET_SIZE(body.body) - body.sent)
        self._left(body)
        return True

    cdef Body first(self):
        """The body that is sent now; there is one."""
        return <Body>self._line[next(iter(self._line))]

    cdef size_t behind(self):
        """The bytes that wait behind the body which is sent now."""
        cdef Body body
        if self.count == 0:
            return 0
        body = self.first()
        return self.bytes - (PyBytes_GET_SIZE(body.body) - body.sent)

    cdef size_t head(self, Buffer out, Body body, int64_t now_us) except? 0:
        """Write to ``out`` what goes before the next piece of ``body``; how long that piece is."""
        cdef size_t n = PyBytes_GET_SIZE(body.body) - body.sent
        cdef uint32_t value = 0
        cdef int64_t left_us
        if n > self.piece_bytes or n > 2 * PIECE_BYTES_LEAST:
            # The last of it goes with the frame itself, and is short.
            n = min(self.piece_bytes, n - PIECE_BYTES_LEAST)
            put_header(
                out.reserve(HEADER_BYTES), <uint32_t>n, F_PIECE, 0, 0, body.id,
                <uint32_t>PyBytes_GET_SIZE(body.body),
            )
            out.length += HEADER_BYTES
            return n
        if body.metadata is not None:
            write_frame(
                out, F_METADATA, 0, 0, body.id, 0, PyBytes_AS_STRING(body.metadata),
                PyBytes_GET_SIZE(body.metadata),
            )
        if body.order_key is not None:
            write_frame(
                out, F_ORDER, 0, 0, body.id, 0, PyBytes_AS_STRING(body.order_key),
                PyBytes_GET_SIZE(body.order_key),
            )
        if body.kind == F_REQUEST:
            value = TIMEOUT_MS_NONE
            if body.due_us:
                left_us = body.due_us - now_us
                value = <uint32_t>(left_us // 1000) if left_us >= 1000 else 1
        put_header(
            out.reserve(HEADER_BYTES), <uint32_t>n, body.kind, body.flags, body.target, body.id,
            value,
        )
        out.length += HEADER_BYTES
        return n

    cdef int passed(self, Body body, size_t n) except -1:
        """The piece that was begun with ``head``, of ``n`` bytes, is sent now."""
        body.sent += n
        self.bytes -= n
        self.budget.give(n)
        if body.sent == <size_t>PyBytes_GET_SIZE(body.body):
            self._left(body)
        return 0

    cdef int _left(self, Body body) except -1:
        del self._line[body.id]
        self.count -= 1
        if body.order_key is not None:
            if self._keys[body.order_key] == 1:
                del self._keys[body.order_key]
            else:
                self._keys[body.order_key] -= 1
        return 0

    cdef void drop(self):
        """The connection has ended."""
        self.budget.give(self.bytes)
        self.bytes = 0
        self.count = 0
        self._line.clear()
        self._keys.clear()


@cython.no_gc_clear
cdef class Incoming:
    """The body that comes in pieces. ``open`` while it is incomplete."""

    def __cinit__(self, Budget budget):
        self.budget = budget

    def __dealloc__(self):
        self.budget.give(self._counted)

    cdef int take(
        self, uint32_t id, size_t length, const char* at, size_t n, bint wanted
    ) except -1:
        """A piece of the body of ``length`` bytes of this id has come. What is not ``wanted``, and
        what finds no room, is thrown away.
        """
        if not self.open:
            self.open = True
            self.id = id
            self.length = length
            self.have = 0
            self.thrown = False
            self.number += 1
        elif id != self.id:
            raise ProtocolError(f"a piece of the body of {id} within that of {self.id}")
        if length != self.length or n > length - self.have:
            raise ProtocolError(
                f"a piece of {n} bytes of a body of {length}, of whose {self.length} "
                f"{self.have} have come"
            )
        if not wanted and not self.thrown:
            self._throw()
        if not self.thrown and self._grow(self.have + n):
            self._throw()
        if not self.thrown and n:
            memcpy(PyBytes_AS_STRING(self._body) + self.have, at, n)
        self.have += n
        return 0

    cdef char* direct(self, size_t most, size_t* n) noexcept:
        """The place of the next bytes, if they are many, or NULL; up to ``most`` may be read there.
        """
        cdef size_t room
        if not self.open or self.thrown or self._body is None:
            return NULL
        try:
            if self.have >= self._counted and self._grow(self.have + 1):
                return NULL
        except MemoryError:
            return NULL
        room = min(self._counted - self.have, most)
        if room < APART_BYTES // 2:
            return NULL
        n[0] = room
        return PyBytes_AS_STRING(self._body) + self.have

    cdef bytes whole(self):
        """The body, which must be complete now; None if it was thrown away."""
        cdef bytes body = self._body
        if self.have != self.length:
            raise ProtocolError(
                f"a body of {self.length} bytes ends after {self.have}"
            )
        if not self.thrown and body is None:
            body = b""
        if not self.thrown and self.length > self._brought:
            self._brought = self.length
        self.drop()
        return body

    cdef void drop(self) noexcept:
        """Nothing more is to come of it."""
        self.open = False
        self._throw()

    cdef void _throw(self) noexcept:
        self.thrown = True
        self._body = None
        self.budget.give(self._counted)
        self._counted = 0

    cdef int _grow(self, size_t wanted) except -1:
        """Make room for ``wanted`` bytes, fourfold as they come: a length is not believed, and to
        grow often costs more than the bytes. 1 if the budget does not admit it.

        What the peer has brought whole before is set aside at once, since moving it and touching
        new memory cost a third of the speed; it counts as it comes, too.
        """
        cdef PyObject* raw
        cdef size_t size = self._counted
        if size >= wanted:
            return 0
        size *= 4
        if size < 2 * wanted:
            size = 2 * wanted
        if size > self.length:
            size = self.length
        if not self.budget.admits(size - self._counted):
            return 1
        self.budget.take(size - self._counted)
        self._counted = size
        if self._body is None:
            self._body = PyBytes_FromStringAndSize(NULL, max(size, min(self.length, self._brought)))
            return 0
        if <size_t>PyBytes_GET_SIZE(self._body) >= size:
            return 0
        # The resize wants the only reference: take it out of the attribute and put it back after.
        raw = <PyObject*>self._body
        Py_INCREF(<object>raw)
        self._body = None
        _PyBytes_Resize(&raw, size)
        self._body = <bytes>raw
        Py_DECREF(<object>raw)
        return 0
