"""Dubbo frames, bytes <-> frames, both directions (``org.apache.dubbo...ExchangeCodec``).

| offset | width | field | validity |
| --- | --- | --- | --- |
| 0 | 2 | magic | ``da bb`` |
| 2 | 1 | flags | 0x80 request, 0x40 two-way, 0x20 event, low 5 bits the serialization's id |
| 3 | 1 | status | replies only: 20 is OK |
| 4 | 8 | id | big-endian; a reply carries its request's |
| 12 | 4 | length of the body | big-endian, 0 to the payload limit; events at most 15 |

A reader takes 16 bytes, checks them, and takes as many more as they say. Bytes that do not begin
with the magic end the connection: there is no looking for the next one. The agents' links, the demo
provider and the tests call this module. The invariants: a frame is handed out whole or not at all,
memory for an unfinished one grows with the bytes that came and not with the length it claims, and a
decoder that failed stays failed.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from dragoman.wire.big_endian cimport read32
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2 cimport hessian_string_to_utf8, write_hessian_string
from dragoman.wire.json.string cimport json_string_to_utf8, write_json_string

from enum import IntEnum
from typing import NamedTuple

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.jsonb.reader import decode as decode_jsonb
from dragoman.wire.jsonb.writer import encode as encode_jsonb

PAYLOAD_BYTES_MAX = DUBBO_PAYLOAD_BYTES_MAX

# An emptied assembly buffer keeps this much; a larger one goes back to the allocator.
cdef Py_ssize_t KEEP_BYTES = 65536
# How far ahead of the bytes that came an unfinished frame's memory may reach at first.
cdef Py_ssize_t STEP_BYTES = 16384
# Shorter frames are always taken.
cdef Py_ssize_t SMALL_BYTES = 4096
# Of a foreign error text, what is worth passing on.
cdef Py_ssize_t ERROR_TEXT_BYTES_MAX = 4096


class Status(IntEnum):
    """The status of a reply; 30, 31, 35 and 90 are made locally by clients."""

    OK = DUBBO_OK
    SERIALIZATION_ERROR = DUBBO_SERIALIZATION_ERROR
    CLIENT_TIMEOUT = DUBBO_CLIENT_TIMEOUT
    SERVER_TIMEOUT = DUBBO_SERVER_TIMEOUT
    CHANNEL_INACTIVE = DUBBO_CHANNEL_INACTIVE
    BAD_REQUEST = DUBBO_BAD_REQUEST
    BAD_RESPONSE = DUBBO_BAD_RESPONSE
    SERVICE_NOT_FOUND = DUBBO_SERVICE_NOT_FOUND
    SERVICE_ERROR = DUBBO_SERVICE_ERROR
    SERVER_ERROR = DUBBO_SERVER_ERROR
    CLIENT_ERROR = DUBBO_CLIENT_ERROR
    POOL_EXHAUSTED = DUBBO_POOL_EXHAUSTED


class Serialization(IntEnum):
    """How a body is written."""

    HESSIAN2 = DUBBO_HESSIAN2
    JAVA = DUBBO_JAVA
    FASTJSON = DUBBO_FASTJSON
    NATIVE_JAVA = DUBBO_NATIVE_JAVA
    KRYO = DUBBO_KRYO
    FST = DUBBO_FST
    AVRO = DUBBO_AVRO
    PROTOSTUFF = DUBBO_PROTOSTUFF
    GSON = DUBBO_GSON
    JACKSON = DUBBO_JACKSON
    PROTOBUF_JSON = DUBBO_PROTOBUF_JSON
    PROTOBUF = DUBBO_PROTOBUF
    FASTJSON2 = DUBBO_FASTJSON2
    KRYO2 = DUBBO_KRYO2
    MSGPACK = DUBBO_MSGPACK
    FURY = DUBBO_FURY


class DubboFrame(NamedTuple):
    """One frame, copied out of a decoder; ``status`` means something in replies only."""

    is_request: bool
    two_way: bool
    is_event: bool
    serialization: int
    status: int
    id: int
    body: bytes


cdef int write_frame(
    Buffer out, uint8_t flags, uint8_t status, uint64_t id, const char* body, Py_ssize_t n
) except -1:
    """Append a frame whose body is already written."""
    cdef char* to = out.reserve(DUBBO_HEADER_BYTES + n)
    put_header(to, flags, status, id, <uint32_t>n)
    if n:
        memcpy(to + DUBBO_HEADER_BYTES, body, n)
    out.length += DUBBO_HEADER_BYTES + n
    return 0


cdef int write_error_reply(
    Buffer out, uint64_t id, int serialization, int status, const char* utf8, Py_ssize_t n
) except -1:
    """Append a reply under a status other than 20 whose body is a text, in fastjson, fastjson2 or
    else in hessian2.

    Returns 1, with nothing appended, when the text is not UTF-8.
    """
    cdef bint spoken = serialization == DUBBO_FASTJSON or serialization == DUBBO_FASTJSON2
    cdef Py_ssize_t start = begin_frame(
        out, serialization if spoken else DUBBO_HESSIAN2, <uint8_t>status, id
    )
    cdef int refused
    cdef bytes field
    if serialization == DUBBO_FASTJSON2:
        try:
            field = encode_jsonb(utf8[:n].decode())
            refused = 0
            out.append(PyBytes_AS_STRING(len(field).to_bytes(4)), 4)
            out.append(PyBytes_AS_STRING(field), PyBytes_GET_SIZE(field))
        except UnicodeDecodeError:
            refused = 1
    elif spoken:
        refused = write_json_string(out, utf8, n)
        if not refused:
            out.append(b"\n", 1)
    else:
        refused = write_hessian_string(out, utf8, n)
    if refused:
        out.length = start
        return 1
    end_frame(out, start)
    return 0


cdef str error_text(int serialization, const char* body, Py_ssize_t n):
    """The text of a reply under a status other than 20, best effort, at most 4 KiB, on one line.

    Reads the serialization's string where that is known and else says how many bytes there were.
    Java's stack traces, which providers send whole, are left out.
    """
    cdef bytes room
    cdef Py_ssize_t length = -1, used = 0
    room = PyBytes_FromStringAndSize(NULL, n + 1)
    if serialization == DUBBO_HESSIAN2:
        length = hessian_string_to_utf8(body, n, PyBytes_AS_STRING(room), &used)
    elif serialization == DUBBO_FASTJSON:
        if n >= 5 and body[0] == 0 and body[4] == c'"':
            body += 4
            n -= 4
        while n > 0 and (body[n - 1] == c'\n' or body[n - 1] == c'\r'):
            n -= 1
        length = json_string_to_utf8(body, n, PyBytes_AS_STRING(room))
    elif serialization == DUBBO_FASTJSON2 and n > 4:
        try:
            text = decode_jsonb(body[4:n])
        except ProtocolError:
            text = None
        if isinstance(text, str):
            room = text.encode("utf-8", "replace")
            length = PyBytes_GET_SIZE(room)
    if length < 0:
        return f"(an error text of {n} bytes in serialization {serialization})"
    text = room[:min(length, ERROR_TEXT_BYTES_MAX)].decode("utf-8", "replace")
    return " ".join(text.partition("\n\tat ")[0].split())


cdef class Taken:
    """A frame's body that its decoder has given away: bytes that are read by the buffer protocol.
    """

    def __dealloc__(self):
        free(self.memory)

    def __len__(self):
        return self.length

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.body, self.length, True, flags)


@cython.no_gc_clear
cdef class DubboDecoder:
    """Takes what a connection received and hands out frames.

    ``payload_bytes_max`` bounds a frame's body. Compiled callers use ``receive`` and
    ``next_frame``; after ``receive`` they call ``next_frame`` until it returns ``DUBBO_NEED_MORE``.
    Fields and ``body`` describe the frame handed out last and are valid until the next call. Python
    callers use ``receive_data`` and ``frames``.
    """

    def __cinit__(self):
        self.pending = NULL
        self.at = self.end = self.body = NULL

    def __init__(self, *, Py_ssize_t payload_bytes_max=DUBBO_PAYLOAD_BYTES_MAX):
        if not 0 <= payload_bytes_max <= 0x7FFFFFFF:
            raise UsageError(f"payload_bytes_max must be 0 to 2147483647, not {payload_bytes_max}")
        self.payload_bytes_max = payload_bytes_max

    def __dealloc__(self):
        self.drop()

    cdef void drop(self) noexcept:
        """Give the memory of an unfinished frame back."""
        if self.budget is not None:
            self.budget.give(self.pending_capacity)
        free(self.pending)
        self.pending = NULL
        self.pending_length = 0
        self.pending_capacity = 0
        self.pending_done = False

    cdef Py_ssize_t have(self) noexcept:
        """How many bytes of the unfinished frame have come; 0 if there is none."""
        if self.skip:
            return DUBBO_HEADER_BYTES + self.body_length - self.skip
        return self.pending_length

    cdef int refuse(self) noexcept:
        """There is no room for the frame that ``read_header`` has described: it is handed out
        without its body.
        """
        cdef Py_ssize_t n = self.end - self.at
        self.skip = DUBBO_HEADER_BYTES + self.body_length - self.pending_length
        self.drop()
        n = min(n, self.skip)
        self.at += n
        self.skip -= n
        self.refused = True
        self.body = NULL
        return DUBBO_FRAME

    cdef int fail(self, str message) noexcept:
        self.failed = True
        self.error = message
        self.chunk = None
        self.at = self.end = self.body = NULL
        self.body_length = 0
        return DUBBO_ERROR

    cdef int receive(self, bytes data) except -2:
        """Take more bytes; keeps a reference to ``data`` and copies only an unfinished frame's."""
        if self.chunk is not None and self.at != self.end:
            data = self.at[:self.end - self.at] + data  # the caller did not drain: slow but right
        self.chunk = data
        self.at = PyBytes_AS_STRING(data)
        self.end = self.at + PyBytes_GET_SIZE(data)
        return 0

    cdef int read_header(self, const uint8_t* p) noexcept:
        """Check 16 bytes and set the fields; the outcome is DUBBO_FRAME or DUBBO_ERROR."""
        cdef uint32_t length
        cdef int i
        if not begins_well(p, 2):
            return self.fail(f"a frame must begin with da bb, not {p[0]:02x} {p[1]:02x}")
        length = read32(p + 12)
        if <Py_ssize_t>length > self.payload_bytes_max:
            if length > 0x7FFFFFFF:
                return self.fail(f"a body of negative length {<Py_ssize_t>length - 0x100000000}")
            return self.fail(f"a body of {length} bytes; at most {self.payload_bytes_max} allowed")
        self.is_request = (p[2] & DUBBO_REQUEST) != 0
        self.two_way = (p[2] & DUBBO_TWO_WAY) != 0
        self.is_event = (p[2] & DUBBO_EVENT) != 0
        self.serialization = p[2] & DUBBO_SERIALIZATION
        self.status = p[3]
        if self.is_event and length > DUBBO_EVENT_BYTES_MAX:
            return self.fail(f"an event of {length} bytes; at most {DUBBO_EVENT_BYTES_MAX} allowed")
        self.id = 0
        for i in range(8):
            self.id = self.id << 8 | p[4 + i]
        self.body_length = length
        return DUBBO_FRAME

    cdef Py_ssize_t needed(self) noexcept:
        """How long the unfinished frame will be, as far as that is known."""
        if self.pending_length < DUBBO_HEADER_BYTES and self.skip == 0:
            return DUBBO_HEADER_BYTES
        return DUBBO_HEADER_BYTES + self.body_length

    cdef int keep(self, Py_ssize_t n, Py_ssize_t needed) noexcept:
        """Move ``n`` bytes to the unfinished frame, which will have ``needed`` when it is whole.
        1 if there is no room for them.
        """
        cdef Py_ssize_t length = self.pending_length + n
        cdef Py_ssize_t capacity
        cdef char* grown
        if length > self.pending_capacity:
            capacity = max(length, min(needed, max(STEP_BYTES, 2 * length)))
            if self.budget is not None and needed > SMALL_BYTES \
                    and not self.budget.admits(capacity - self.pending_capacity):
                return 1
            grown = <char*>realloc(self.pending, capacity)
            if grown == NULL:
                return self.fail(f"no memory for a frame of {needed} bytes")
            if self.budget is not None:
                self.budget.take(capacity - self.pending_capacity)
            self.pending = grown
            self.pending_capacity = capacity
        memcpy(self.pending + self.pending_length, self.at, n)
        self.pending_length = length
        self.at += n
        return 0

    cdef int next_frame(self) noexcept:
        """The next frame: DUBBO_FRAME, DUBBO_NEED_MORE, or, for good, DUBBO_ERROR."""
        cdef Py_ssize_t have
        cdef int outcome
        cdef Py_ssize_t needed = DUBBO_HEADER_BYTES
        if self.failed:
            return DUBBO_ERROR
        if self.pending_done:
            self.pending_done = False
            self.pending_length = 0
            if self.pending_capacity > KEEP_BYTES:
                self.drop()
        self.refused = False
        if self.skip:
            have = min(self.end - self.at, self.skip)
            self.at += have
            self.skip -= have
            if self.skip:
                self.chunk = None
                return DUBBO_NEED_MORE
        if self.pending_length:
            return self.next_pending()
        have = self.end - self.at
        if have >= DUBBO_HEADER_BYTES:
            if self.read_header(<const uint8_t*>self.at) < 0:
                return DUBBO_ERROR
            needed += self.body_length
            if have >= needed:
                self.body = self.at + DUBBO_HEADER_BYTES
                self.at += needed
                return DUBBO_FRAME
        elif have > 0 and not begins_well(<const uint8_t*>self.at, have):
            return self.fail("a frame must begin with da bb")
        if have > 0:
            self.pieced += 1
            outcome = self.keep(have, needed)
            if outcome:
                return DUBBO_ERROR if outcome < 0 else self.refuse()
        self.chunk = None
        return DUBBO_NEED_MORE

    cdef int next_pending(self) noexcept:
        """Go on with the frame that an earlier chunk left unfinished."""
        cdef Py_ssize_t needed
        cdef int outcome
        while True:
            needed = DUBBO_HEADER_BYTES
            if self.pending_length >= DUBBO_HEADER_BYTES:
                # The caller may not have kept our fields since: they are read again.
                if self.read_header(<const uint8_t*>self.pending) < 0:
                    return DUBBO_ERROR
                needed += self.body_length
                if self.pending_length == needed:
                    self.body = self.pending + DUBBO_HEADER_BYTES
                    self.pending_done = True
                    return DUBBO_FRAME
            elif not begins_well(<const uint8_t*>self.pending, self.pending_length):
                return self.fail("a frame must begin with da bb")
            if self.at == self.end:
                self.chunk = None
                return DUBBO_NEED_MORE
            outcome = self.keep(min(self.end - self.at, needed - self.pending_length), needed)
            if outcome:
                return DUBBO_ERROR if outcome < 0 else self.refuse()

    cdef object take_body(self):
        """The body of the frame that was handed out last, without a copy, or None if it lies among
        others' bytes. Whoever takes it owns it; the frame's fields stay."""
        cdef Taken taken
        if not self.pending_done or self.body_length == 0:
            return None
        taken = Taken.__new__(Taken)
        taken.memory = self.pending
        taken.body = self.pending + DUBBO_HEADER_BYTES
        taken.length = self.body_length
        if self.budget is not None:
            self.budget.give(self.pending_capacity)
        self.pending = NULL
        self.pending_capacity = 0
        self.pending_length = 0
        self.pending_done = False
        return taken

    @property
    def buffered_bytes(self):
        """Memory held for an unfinished frame."""
        return self.pending_capacity

    def receive_data(self, bytes data not None):
        """Take more bytes from the peer."""
        self.receive(data)

    def frames(self):
        """All whole frames there are, copied.

        ProtocolError, after those before it, for a broken one.
        """
        cdef int outcome = DUBBO_FRAME
        result = []
        while True:
            outcome = self.next_frame()
            if outcome == DUBBO_NEED_MORE or (outcome == DUBBO_ERROR and result):
                return result
            if outcome == DUBBO_ERROR:
                raise ProtocolError(self.error)
            result.append(
                DubboFrame(
                    self.is_request, self.two_way, self.is_event, self.serialization, self.status,
                    self.id, self.body[:self.body_length],
                )
            )


cdef inline bint begins_well(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Whether the first ``n`` (1 or more) bytes can begin a frame."""
    return p[0] == DUBBO_MAGIC_HIGH and (n < 2 or p[1] == DUBBO_MAGIC_LOW)


def encode_frame(
    uint64_t id, bytes body not None, *, bint request=False, bint two_way=False, bint event=False,
    int serialization=DUBBO_FASTJSON, int status=0,
):
    """One frame's bytes."""
    cdef Buffer out = Buffer()
    cdef int flags = serialization & DUBBO_SERIALIZATION
    flags |= (DUBBO_REQUEST if request else 0) | (DUBBO_TWO_WAY if two_way else 0)
    flags |= DUBBO_EVENT if event else 0
    write_frame(
        out, <uint8_t>flags, <uint8_t>status, id, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body)
    )
    return out.take()


def encode_error_reply(
    uint64_t id, int status, bytes text not None, *, int serialization=DUBBO_FASTJSON
):
    """A reply under a status other than 20. UsageError when ``text`` is not UTF-8."""
    cdef Buffer out = Buffer()
    if write_error_reply(
        out, id, serialization, status, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
    ):
        raise UsageError("an error text must be valid UTF-8")
    return out.take()


def reply_error_text(int serialization, bytes body not None):
    """The text of a reply under a status other than 20, best effort, at most 4 KiB, on one line."""
    return error_text(serialization, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
