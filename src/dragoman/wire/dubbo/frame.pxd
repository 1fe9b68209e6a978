from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.wire.buffer cimport Buffer

cdef enum:
    DUBBO_MAGIC_HIGH = 0xDA            # the first byte, and the second
    DUBBO_MAGIC_LOW = 0xBB
    DUBBO_HEADER_BYTES = 16
    DUBBO_PAYLOAD_BYTES_MAX = 8388608  # Dubbo's default `payload`
    DUBBO_EVENT_BYTES_MAX = 15         # Dubbo 3: CodecSupport refuses longer ones

# Flags: the third byte; its low five bits are the serialization's id.
cdef enum:
    DUBBO_REQUEST = 0x80
    DUBBO_TWO_WAY = 0x40
    DUBBO_EVENT = 0x20
    DUBBO_SERIALIZATION = 0x1F

# Status: the fourth byte of a reply (org.apache.dubbo.remoting.exchange.Response).
cdef enum:
    DUBBO_OK = 20
    DUBBO_SERIALIZATION_ERROR = 25
    DUBBO_CLIENT_TIMEOUT = 30
    DUBBO_SERVER_TIMEOUT = 31
    DUBBO_CHANNEL_INACTIVE = 35
    DUBBO_BAD_REQUEST = 40
    DUBBO_BAD_RESPONSE = 50
    DUBBO_SERVICE_NOT_FOUND = 60
    DUBBO_SERVICE_ERROR = 70
    DUBBO_SERVER_ERROR = 80
    DUBBO_CLIENT_ERROR = 90
    DUBBO_POOL_EXHAUSTED = 100

# Serialization ids (org.apache.dubbo.common.serialize.Constants).
cdef enum:
    DUBBO_HESSIAN2 = 2
    DUBBO_JAVA = 3
    DUBBO_FASTJSON = 6
    DUBBO_NATIVE_JAVA = 7
    DUBBO_KRYO = 8
    DUBBO_FST = 9
    DUBBO_AVRO = 11
    DUBBO_PROTOSTUFF = 12
    DUBBO_GSON = 16
    DUBBO_JACKSON = 18
    DUBBO_PROTOBUF_JSON = 21
    DUBBO_PROTOBUF = 22
    DUBBO_FASTJSON2 = 23
    DUBBO_KRYO2 = 25
    DUBBO_MSGPACK = 27
    DUBBO_FURY = 28

# Outcomes of DubboDecoder.next_frame.
cdef enum:
    DUBBO_NEED_MORE = 0
    DUBBO_FRAME = 1
    DUBBO_ERROR = -1

cdef inline void put_header(
    char* to, uint8_t flags, uint8_t status, uint64_t id, uint32_t length
) noexcept nogil:
    """The 16 bytes of a header at ``to``, big-endian."""
    cdef uint8_t* p = <uint8_t*>to
    cdef int i
    p[0] = DUBBO_MAGIC_HIGH
    p[1] = DUBBO_MAGIC_LOW
    p[2] = flags
    p[3] = status
    for i in range(8):
        p[4 + i] = <uint8_t>(id >> (56 - 8 * i))
    for i in range(4):
        p[12 + i] = <uint8_t>(length >> (24 - 8 * i))

cdef inline Py_ssize_t begin_frame(
    Buffer out, uint8_t flags, uint8_t status, uint64_t id
) except -1:
    """Append a header whose length end_frame puts in; returns where the frame begins."""
    cdef Py_ssize_t start = out.length
    put_header(out.reserve(DUBBO_HEADER_BYTES), flags, status, id, 0)
    out.length += DUBBO_HEADER_BYTES
    return start

cdef inline void end_frame(Buffer out, Py_ssize_t start) noexcept:
    """Put the length of all that was appended since begin_frame into its header."""
    cdef uint32_t length = <uint32_t>(<Py_ssize_t>out.length - start - DUBBO_HEADER_BYTES)
    cdef uint8_t* p = <uint8_t*>out.data + start + 12
    p[0] = <uint8_t>(length >> 24)
    p[1] = <uint8_t>(length >> 16)
    p[2] = <uint8_t>(length >> 8)
    p[3] = <uint8_t>length

cdef int write_frame(
    Buffer out, uint8_t flags, uint8_t status, uint64_t id, const char* body, Py_ssize_t n
) except -1
cdef int write_error_reply(
    Buffer out, uint64_t id, int serialization, int status, const char* utf8, Py_ssize_t n
) except -1
cdef str error_text(int serialization, const char* body, Py_ssize_t n)


cdef class Taken:
    cdef char* memory
    cdef char* body
    cdef Py_ssize_t length


cdef class DubboDecoder:
    cdef bytes chunk              # what was received last, while any of it is unread
    cdef const char* at
    cdef const char* end
    cdef char* pending            # an unfinished frame's bytes from earlier chunks
    cdef Py_ssize_t pending_length, pending_capacity
    cdef bint pending_done        # the frame handed out last lies there
    cdef bint failed
    cdef Budget budget            # where unfinished frames count, unless None
    cdef bint refused             # the frame's body had no room: it is thrown away as it comes
    cdef Py_ssize_t skip          # how much of it is yet to come
    cdef uint64_t pieced          # how many frames have come in pieces
    cdef Py_ssize_t payload_bytes_max

    # The frame handed out last; valid until the next call of any method.
    cdef readonly bint is_request, two_way, is_event
    cdef readonly int serialization, status
    cdef uint64_t id
    cdef const char* body
    cdef Py_ssize_t body_length

    cdef readonly str error       # after DUBBO_ERROR: one line

    cdef object take_body(self)
    cdef int receive(self, bytes data) except -2
    cdef int next_frame(self) noexcept
    cdef int read_header(self, const uint8_t* p) noexcept
    cdef int next_pending(self) noexcept
    cdef Py_ssize_t needed(self) noexcept
    cdef Py_ssize_t have(self) noexcept
    cdef void drop(self) noexcept
    cdef int refuse(self) noexcept
    cdef int keep(self, Py_ssize_t n, Py_ssize_t needed) noexcept
    cdef int fail(self, str message) noexcept
