"""Mesh frames: what two dragoman programs say to each other. Sans-I/O.

``docs/formats/mesh.md`` is the specification. Every frame is a 16-byte header, all fields
little-endian, and a body:

    offset width field   meaning
    0      u32   length  bytes of body after the header
    4      u8    type    1..16
    5      u8    flags   by type; unknown bits are refused
    6      u16   target  REQUEST: method id; ERROR: error code; NAME: the method id being named;
    else 0
    8      u32   id      of the request that the frame belongs to, never 0 there; else 0
    12     u32   value   by type: timeout, credits, counts; else 0

A reader takes 16 bytes, checks every field against the tables below, then takes the body.
Used by ``rpc``; decoding has three outcomes: a frame, "need more", or an error, after which
the decoder stays dead (no resynchronisation).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from dragoman.wire.buffer cimport Buffer

from dragoman.errors import ProtocolError


cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject** string, Py_ssize_t size) except -1

# A peer's length is believed only this far ahead of the bytes that have come.
cdef size_t GROW_BYTES = 65536
# Shorter bodies are always taken.
cdef uint32_t SMALL_BYTES = 4096
cdef uint32_t TEXT_BODY_MAX = 1024
cdef uint32_t KEY_BODY_MAX = 255
cdef uint32_t PIECE_BODY_MAX = 1048576
cdef uint32_t METADATA_BODY_MAX = 4096
cdef uint32_t ERROR_BODY_MAX = 4096
cdef uint32_t SESSION_LIMIT = 0xFFFFFFFF

KINDS = {
    "HELLO": F_HELLO, "NAME": F_NAME, "REQUEST": F_REQUEST, "REPLY": F_REPLY, "ERROR": F_ERROR,
    "CANCEL": F_CANCEL, "CREDIT": F_CREDIT, "DEMAND": F_DEMAND, "RECLAIM": F_RECLAIM,
    "RETURN": F_RETURN, "PING": F_PING, "PONG": F_PONG, "GOODBYE": F_GOODBYE,
    "ORDER": F_ORDER, "PIECE": F_PIECE, "METADATA": F_METADATA,
}
VERSION = MESH_VERSION
MAGIC = b"DRGM"
FIELDS = ((1, "target"), (2, "id"), (4, "value"))

# What each type may carry, by its number: HELLO, NAME, REQUEST, REPLY, ERROR, CANCEL, CREDIT,
# DEMAND, RECLAIM, RETURN, PING, PONG, GOODBYE, ORDER, PIECE, METADATA. The smallest and the
# largest body (SESSION_LIMIT: that of the session).
cdef uint32_t BODY_MIN[17]
BODY_MIN[:] = [0, HELLO_BYTES, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
cdef uint32_t BODY_MAX[17]
BODY_MAX[:] = [
    0, TEXT_BODY_MAX, TEXT_BODY_MAX, SESSION_LIMIT, SESSION_LIMIT, ERROR_BODY_MAX,
    0, 0, 0, 0, 0, 0, 0, TEXT_BODY_MAX, KEY_BODY_MAX, PIECE_BODY_MAX, METADATA_BODY_MAX,
]
cdef uint8_t FLAGS_MAX[17]
FLAGS_MAX[:] = [
    0, 0, 0, FLAG_NO_REPLY, 0, FLAG_RETRY_SAFE, 0, 0, 0, 0, 0, 0, 0, FLAG_VIOLATION, 0, 0, 0,
]
# Which of target (1), id (2) and value (4) must be zero, and which must not be.
cdef uint8_t MUST_BE_ZERO[17]
MUST_BE_ZERO[:] = [7, 7, 6, 0, 1, 0, 5, 3, 3, 3, 3, 3, 3, 7, 5, 1, 5]
cdef uint8_t MUST_BE_SET[17]
MUST_BE_SET[:] = [0, 0, 1, 7, 2, 3, 2, 4, 0, 4, 0, 0, 0, 0, 2, 2, 2]


cdef int write_frame(
    Buffer out, uint8_t kind, uint8_t flags, uint16_t target, uint32_t id, uint32_t value,
    const char* body, size_t n
) except -1:
    """Append a frame with its body to ``out``."""
    cdef char* at = out.reserve(HEADER_BYTES + n)
    put_header(at, <uint32_t>n, kind, flags, target, id, value)
    if n:
        memcpy(at + HEADER_BYTES, body, n)
    out.length += HEADER_BYTES + n
    return 0


@cython.no_gc_clear
cdef class MeshDecoder:
    """Bytes in, frames out. ``body_bytes_max`` bounds the body of requests, replies and errors.

    A frame that lies whole in the bytes received is described in place, without a copy; one that
    comes in pieces is put together once, in the object that the receiver may keep (``owner``). With
    a ``budget`` such a body is held only as far as that admits; a request or a reply that has no
    room is ``refused``: described without its body, which is thrown away as it comes.
    """

    def __cinit__(self, uint32_t body_bytes_max=16 * 1024 * 1024):
        self.body_bytes_max = body_bytes_max
        self._at = NULL
        self._end = NULL
        self._head_have = 0
        self._partial_have = 0

    def __dealloc__(self):
        if self.budget is not None:
            self.budget.give(self._counted)

    cdef void receive(self, const char* data, size_t n) noexcept:
        """Hand over bytes; they must stay valid until ``next_frame`` has returned MESH_NEED_MORE.
        """
        self._at = data
        self._end = data + n

    cdef bytes rest(self):
        """The bytes received and not looked at yet; they count as looked at from now on."""
        cdef bytes left = PyBytes_FromStringAndSize(self._at, self._end - self._at)
        self._at = self._end
        return left

    cdef bint more(self) noexcept:
        """Whether something has been received and not been looked at."""
        return self._at != self._end

    cdef bint idle(self) noexcept:
        """Whether no unfinished frame is held."""
        return self._head_have == 0 and self._partial is None and self._skip == 0 \
            and self.piece_left == 0

    cdef bint midway(self) noexcept:
        """Whether the body of an unfinished frame is being put together."""
        return self._partial is not None

    cdef size_t have(self) noexcept:
        """Bytes of the unfinished frame's header, or, once that is whole, of its body."""
        if self._skip:
            return self.length - self._skip
        return self._head_have if self._partial is None else self._partial_have

    cdef void _count(self, size_t n) noexcept:
        """``n`` bytes are held for the unfinished body."""
        if self.budget is not None:
            if n > self._counted:
                self.budget.take(n - self._counted)
            else:
                self.budget.give(self._counted - n)
            self._counted = n

    cdef void drop(self) noexcept:
        """Let go of the unfinished body: the connection has ended."""
        self._dead = True
        self._partial = None
        self._count(0)

    cdef void skip_rest(self) noexcept:
        """Throw the body away that is being put together, and what is yet to come of it."""
        self._skip = self.length - self._partial_have
        self._partial = None
        self._count(0)

    cdef bint _refusable(self) noexcept:
        """Whether the frame is one whose sender can be told that there was no room."""
        return (self.kind == F_REQUEST or self.kind == F_REPLY) and self.length > SMALL_BYTES

    cdef int _refuse(self) noexcept:
        self.skip_rest()
        self._pass_over()
        self.refused = True
        self.body = NULL
        return MESH_FRAME

    cdef void _pass_over(self) noexcept:
        cdef size_t n = self._end - self._at
        if n > self._skip:
            n = self._skip
        self._at += n
        self._skip -= n

    cdef int _check(self) except -2:
        cdef uint32_t limit
        cdef uint8_t present
        if self.kind == 0 or self.kind > F_LAST:
            self.error = f"unknown mesh frame type {self.kind}"
            return MESH_ERROR
        if self.flags & ~FLAGS_MAX[self.kind]:
            self.error = f"unknown flags {self.flags:#04x} on mesh frame type {self.kind}"
            return MESH_ERROR
        present = (self.target != 0) | (self.id != 0) << 1 | (self.value != 0) << 2
        if present & MUST_BE_ZERO[self.kind] or ~present & MUST_BE_SET[self.kind]:
            self.error = (
                f"mesh frame type {self.kind} with target {self.target}, id {self.id}, "
                f"value {self.value}: {_expected(self.kind)}"
            )
            return MESH_ERROR
        limit = BODY_MAX[self.kind]
        if limit == SESSION_LIMIT or limit > self.body_bytes_max and (
            self.kind == F_ERROR or self.kind == F_PIECE
        ):
            limit = self.body_bytes_max
        if self.length > limit:
            self.error = (
                f"mesh frame type {self.kind} with a body of {self.length} bytes, "
                f"at most {limit} allowed"
            )
            return MESH_ERROR
        if self.length < BODY_MIN[self.kind]:
            self.error = (
                f"mesh frame type {self.kind} with a body of {self.length} bytes, "
                f"at least {BODY_MIN[self.kind]} expected"
            )
            return MESH_ERROR
        return MESH_FRAME

    cdef int _grow(self, size_t wanted) except -1:
        """Make room for ``wanted`` bytes of body; doubling, since large reallocations move pages. 1
        if the budget does not admit it.
        """
        cdef PyObject* raw
        cdef size_t size = len(self._partial)
        if size >= wanted:
            return 0
        size = size * 2
        if size < wanted:
            size = wanted
        if size > self.length:
            size = self.length
        if self.budget is not None:
            if not self.budget.admits(size - self._counted) and self._refusable():
                return 1
            self._count(size)
        # The resize wants the only reference: take it out of the attribute and put it back after.
        raw = <PyObject*>self._partial
        Py_INCREF(<object>raw)
        self._partial = None
        try:
            _PyBytes_Resize(&raw, size)
        except MemoryError:
            # Half a frame is gone: nothing after it can be understood.
            self._dead = True
            self.error = f"no memory for a mesh frame's body of {self.length} bytes"
            raise
        self._partial = <bytes>raw
        Py_DECREF(<object>raw)
        return 0

    cdef int next_frame(self) except -2:
        """Describe the next frame in this object's fields; they stay valid until the next call."""
        cdef const char* head
        if self._dead:
            return MESH_ERROR
        self.owner = None
        self.refused = False
        if self._skip:
            self._pass_over()
            if self._skip:
                return MESH_NEED_MORE
        if self.piece_left:
            return self._more_of_piece()
        if self._partial is not None:
            return _more_of_body(self)
        head = _take_header(self)
        if head == NULL:
            return MESH_NEED_MORE
        self.length = (<uint32_t*>head)[0]
        self.kind = (<uint8_t*>head)[4]
        self.flags = (<uint8_t*>head)[5]
        self.target = (<uint16_t*>(head + 6))[0]
        self.id = (<uint32_t*>(head + 8))[0]
        self.value = (<uint32_t*>(head + 12))[0]
        # The commonest frames first; what is unusual about them, and all others, by the tables.
        if not (
            self.kind == F_REPLY and not self.flags and not self.target and self.id
            and self.length <= self.body_bytes_max
        ) and self._check() == MESH_ERROR:
            self._dead = True
            return MESH_ERROR
        if <size_t>(self._end - self._at) >= self.length:
            self.body = self._at
            self._at += self.length
            return MESH_FRAME
        if self.kind == F_PIECE and self.split_pieces:
            self.piece_left = self.length
            return self._more_of_piece()
        return _begin_body(self)

    cdef int _more_of_piece(self) noexcept:
        """Describe what has come of a PIECE as if that were all of it."""
        cdef size_t n = self._end - self._at
        if n == 0:
            return MESH_NEED_MORE
        if n > self.piece_left:
            n = self.piece_left
        self.length = <uint32_t>n
        self.body = self._at
        self._at += n
        self.piece_left -= n
        return MESH_FRAME

    cdef char* direct(self, size_t* n) noexcept:
        """Where the next bytes of an unfinished large body belong, or NULL: a reader may read
        straight into it and then say so with ``direct_received``.
        """
        cdef size_t room
        if self._partial is None or self._dead:
            return NULL
        try:
            if self._partial_have >= <size_t>len(self._partial) \
                    and self._grow(self._partial_have + 1):
                return NULL
        except MemoryError:
            return NULL
        room = <size_t>len(self._partial) - self._partial_have
        if room < GROW_BYTES // 2:
            return NULL
        n[0] = room
        return PyBytes_AS_STRING(self._partial) + self._partial_have

    cdef int direct_received(self, size_t n) except -1:
        """``n`` bytes were read to where ``direct`` pointed; go on with ``next_frame``."""
        self._partial_have += n
        self._at = NULL
        self._end = NULL
        return 0

    # For Python callers: tests, tools and the fuzzers.

    def frames(self, bytes data not None):
        """All frames completed by ``data`` as tuples ``(type, flags, target, id, value, body)``.

        Raises ProtocolError where the peer broke the format; frames before that place are lost to
        this call, which is for tests and tools.
        """
        cdef list found = []
        cdef int event
        self.receive(PyBytes_AS_STRING(data), len(data))
        while True:
            event = self.next_frame()
            if event == MESH_NEED_MORE:
                return found
            if event == MESH_ERROR:
                raise ProtocolError(self.error)
            found.append((self.kind, self.flags, self.target, self.id, self.value,
                          self.body[:self.length]))


cdef inline const char* _take_header(MeshDecoder self) noexcept:
    """The next frame's header, in place or put together; NULL if it is not whole yet."""
    cdef const char* head = self._at
    cdef size_t available = self._end - self._at
    cdef size_t want
    if self._head_have == 0 and available >= HEADER_BYTES:
        self._at += HEADER_BYTES
        return head
    if self._head_have == 0:
        self.pieced += available != 0
    want = HEADER_BYTES - self._head_have
    if want > available:
        want = available
    if want:
        memcpy(self._head + self._head_have, self._at, want)
    self._head_have += want
    self._at += want
    if self._head_have < HEADER_BYTES:
        return NULL
    self._head_have = 0
    return self._head


cdef int _begin_body(MeshDecoder self) except -2:
    """A body has not come whole: make room for it, as far as its length is believed, or refuse it.
    """
    cdef size_t want = 2 * <size_t>(self._end - self._at)
    if want < GROW_BYTES:
        want = GROW_BYTES
    if want > self.length:
        want = self.length
    self._partial_have = 0
    if self.budget is not None and not self.budget.admits(want) and self._refusable():
        return self._refuse()
    self._partial = PyBytes_FromStringAndSize(NULL, want)
    self._count(want)
    self.pieced += 1
    return _more_of_body(self)


cdef int _more_of_body(MeshDecoder self) except -2:
    """Put together what has come of a body that comes in pieces."""
    cdef size_t available = self._end - self._at
    cdef size_t want = self.length - self._partial_have
    if want > available:
        want = available
    if want:
        if self._grow(self._partial_have + want):
            return self._refuse()
        memcpy(PyBytes_AS_STRING(self._partial) + self._partial_have, self._at, want)
        self._partial_have += want
        self._at += want
    if self._partial_have < self.length:
        return MESH_NEED_MORE
    self.owner = self._partial
    self._partial = None
    self._count(0)
    self.body = PyBytes_AS_STRING(self.owner)
    return MESH_FRAME


def _expected(int kind):
    """Which of target, id and value must and must not be zero in frames of this type."""
    zero = [name for bit, name in FIELDS if MUST_BE_ZERO[kind] & bit]
    given = [name for bit, name in FIELDS if MUST_BE_SET[kind] & bit]
    words = [f"{' and '.join(zero)} must be 0"] if zero else []
    if given:
        words.append(f"{' and '.join(given)} must not be 0")
    return ", ".join(words)


def encode(int kind, *, int flags=0, int target=0, uint32_t id=0, uint32_t value=0, bytes body=b""):
    """One frame as bytes (tests and tools)."""
    cdef Buffer out = Buffer()
    write_frame(out, kind, flags, target, id, value, PyBytes_AS_STRING(body), len(body))
    return out.take()
