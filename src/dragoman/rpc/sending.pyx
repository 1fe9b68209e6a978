"""The sending half of a session: frames gathered into one write, large bodies in pieces.

``rpc.session`` is built on this. All frames of a tick leave in one write, straight to the kernel
where that is possible, else through the transport. Bodies that are large are written from where
they are, in pieces as long as the link takes in a few milliseconds, so that small calls pass them.

Invariant: frames leave in the order in which they came, except that others may leave between the
pieces of a body; what gathers while the peer does not read is bounded by ``out_bytes_max``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <sys/ioctl.h>
    #ifdef __linux__
    #include <linux/sockios.h>
    #endif
    /* Bytes that the other end's kernel has not taken, or -1. */
    static inline int kernel_queue(int fd) {
    #ifdef SIOCOUTQ
        int n = 0;
        if (ioctl(fd, SIOCOUTQ, &n) == 0)
            return n;
    #endif
        return -1;
    }
    """
    int kernel_queue(int fd) nogil

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    ssize_t send(int fd, const void* data, size_t n, int flags)
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr* message, int flags)

from dragoman.rpc.arrival cimport Arriving
from dragoman.rpc.pieces cimport (
    APART_BYTES, PIECE_BYTES_LEAST, PIECE_BYTES_MOST, WHOLE_BYTES, Body, Outgoing,
)
from dragoman.rpc.tick cimport write_to
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.mesh cimport HEADER_BYTES, put_header, write_frame

import socket

# Not named in Python 3.11.
cdef int TCP_NOTSENT_LOWAT = 25
# So much of a body leaves in a tick, however fast the peer.
cdef size_t PUMP_BYTES = 1048576
# A piece is to take so long: shorter ones cost speed, longer ones keep small calls waiting.
cdef int64_t PIECE_US_LEAST = 1000
cdef int64_t PIECE_US_MOST = 4000


cdef class Sending(Arriving):
    """All that one end of a connection sends, and what it holds until it is sent."""

    def __cinit__(self, *args, **kwargs):
        self.out = Buffer()
        self._socket = -1

    cdef void lose(self, str why):
        """The peer is dead or hopeless: close at once, saying why to our own side."""

    cdef inline void mark(self):
        if not self._marked and not self._eager:
            self.tick.mark(self)

    cdef int control(
        self, int kind, uint16_t target, uint32_t id, uint32_t value, bytes body
    ) except -1:
        """Queue a control frame."""
        if self.closed:
            return 0
        write_frame(self.out, kind, 0, target, id, value, PyBytes_AS_STRING(body), len(body))
        self.mark()
        return 0

    cdef int put(
        self, uint8_t kind, uint8_t flags, uint16_t target, uint32_t id, uint32_t value,
        const char* body, size_t n, bytes owner
    ) except -1:
        """Queue a frame with a body. ``owner``, if it is given, holds exactly the body: a large one
        is then written from there.
        """
        cdef char* at
        if owner is not None and n >= APART_BYTES:
            if n > self._largest:
                self._largest = n
            write_frame(self.out, kind, flags, target, id, value, NULL, 0)
            (<uint32_t*>(self.out.data + self.out.length - HEADER_BYTES))[0] = <uint32_t>n
            if self._parts is None:
                self._parts = []
            self._parts_bytes += self.out.length + n
            self.budget.take(self.out.length + n)
            self._parts.append(self.out.take())
            self._parts.append(owner)
        else:
            at = self.out.reserve(HEADER_BYTES + n)
            put_header(at, <uint32_t>n, kind, flags, target, id, value)
            memcpy(at + HEADER_BYTES, body, n)
            self.out.length += HEADER_BYTES + n
        self.mark()
        if self.out.length + self._parts_bytes > SPILL_BYTES and not self.paused:
            self.flush()
        return 0

    cdef void flush(self):
        """End of the tick: everything gathered leaves in one write."""
        cdef size_t n = self.gathered()
        if self.closed or (n == 0 and self.bodies is None):
            return
        if self.paused:
            if n > self.out_bytes_max and n > 4 * self._largest:
                self.lose(f"{n} bytes wait for a peer that does not read")
            return
        if self.bodies is not None:
            if self.bodies.count:
                self.pump(False)
                return
            if self._narrow:
                self._widen()
            if n == 0:
                return
        self.bytes_out += n
        self.writes += 1
        if self._parts is None:
            if not self._send_now(n):
                if self._fd < 0 and self.transport.is_closing():
                    self._broken = True
                write_to(self.transport, self.out.take())
            return
        self._write_parts()

    cdef int _write_parts(self) except -1:
        """Send what has gathered with bodies apart, in the order in which it came."""
        cdef list parts
        if self._fd < 0 or self.transport.is_closing():
            self._broken = self.transport.is_closing()
        elif self.transport.get_write_buffer_size() == 0:
            # Only whether it would be taken.
            self._try(NULL, 0)
        parts = self._parts
        self._parts = None
        self.budget.give(self._parts_bytes)
        self._parts_bytes = 0
        if self.out.length:
            parts.append(self.out.take())
        if not self.transport.is_closing():
            self.transport.writelines(parts)

    cdef bint _send_now(self, size_t n) except -1:
        """Give what was gathered to the kernel without a detour, if it can be: false if nothing of
        it has been sent.
        """
        cdef ssize_t sent
        # What the transport still holds goes first; and the socket of a transport that is closing
        # may be somebody else's by now.
        if self._fd < 0 or self.transport.is_closing() or self.transport.get_write_buffer_size():
            return False
        sent = self._try(self.out.data, n)
        if sent <= 0:
            # Full, or broken: the transport finds out.
            return False
        if <size_t>sent == n:
            self.out.clear()
        else:
            rest = PyBytes_FromStringAndSize(self.out.data + sent, n - sent)
            self.out.clear()
            write_to(self.transport, rest)
        return True

    cdef ssize_t _try(self, const char* data, size_t n) noexcept:
        """Have the kernel take ``data``; notices a connection that is broken."""
        cdef ssize_t sent = send(self._fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            self._notice()
        return sent

    cdef inline void _notice(self) noexcept:
        """The kernel has taken nothing: does it ever?"""
        if errno != EAGAIN and errno != EINTR and errno != ENOBUFS and errno != ENOMEM:
            self._broken = True

    cdef inline size_t gathered(self) noexcept:
        """Bytes that wait for the end of the tick, or for the peer to read."""
        cdef size_t n = self.out.length + self._parts_bytes
        if self.bodies is not None:
            n += self.bodies.bytes
        return n

    cdef void drop_gathered(self):
        """The connection is gone: nothing of what has gathered leaves any more."""
        self.out.drop()
        self._parts = None
        self.budget.give(self._parts_bytes)
        self._parts_bytes = 0

    # Bodies in pieces

    cdef int add_body(self, Body body) except -1:
        """Queue a frame with a large body, which leaves in pieces, after those before it."""
        cdef size_t n = PyBytes_GET_SIZE(body.body)
        if n > self._largest:
            self._largest = n
        if self.bodies is None:
            self.bodies = Outgoing(self.budget)
            self._pace_pieces()
        if not self._narrow:
            # The transport is to say when it has nothing left, not when it has much.
            self._narrow = True
            self.transport.set_write_buffer_limits(*((0, 0) if self._fd >= 0 else (65536, 16384)))
        self.bodies.add(body)
        self.mark()
        if not self.paused:
            self.flush()
        return 0

    cdef bint goes_apart(self, size_t n):
        """Whether a body of ``n`` bytes, more than APART_BYTES, goes in pieces."""
        return self.in_pieces and (
            n > WHOLE_BYTES or self.paused or (self.bodies is not None and self.bodies.count)
        )

    cdef int pump(self, bint whole) except -1:
        """Send what has gathered, and pieces of bodies while the kernel takes them, or all."""
        cdef Body body
        cdef size_t n, done = 0
        if self._parts is not None:
            # All of it was there before.
            self.bytes_out += self.out.length + self._parts_bytes
            self.writes += 1
            self._write_parts()
        while self.bodies.count and (whole or not self.paused and done < PUMP_BYTES):
            body = self.bodies.first()
            n = self.bodies.head(self.out, body, self.tick.now_us())
            self._send_with(body, n)
            if self._broken:
                # It has not been sent whole, nor will it be.
                return 0
            self.bodies.passed(body, n)
            done += n
            if not self.paused and self._idles():
                self._lengthen_pieces()
        if self.bodies.count == 0:
            self._widen()
        elif not self.paused:
            self.mark()
        return 0

    cdef int _send_with(self, Body body, size_t n) except -1:
        """Write what has gathered, and behind it the next ``n`` bytes of ``body``."""
        cdef iovec parts[2]
        cdef msghdr message
        cdef size_t before = self.out.length
        cdef ssize_t sent = 0
        self.bytes_out += before + n
        self.writes += 1
        if self._fd >= 0 and not self.transport.is_closing() \
                and not self.transport.get_write_buffer_size():
            parts[0].iov_base = self.out.data
            parts[0].iov_len = before
            parts[1].iov_base = PyBytes_AS_STRING(body.body) + body.sent
            parts[1].iov_len = n
            memset(&message, 0, sizeof(message))
            message.msg_iov = parts
            message.msg_iovlen = 2
            sent = sendmsg(self._fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent < 0:
                # Full, or broken: the transport finds out.
                self._notice()
                sent = 0
        elif self.transport.is_closing():
            self._broken = True
        if <size_t>sent < before:
            write_to(
                self.transport, PyBytes_FromStringAndSize(self.out.data + sent, before - sent)
            )
            sent = before
        self.out.clear()
        if <size_t>sent < before + n:
            # From where it is.
            write_to(
                self.transport,
                memoryview(body.body)[body.sent + sent - before:body.sent + n],
            )
        return 0

    cdef void _pace_pieces(self):
        """Have the kernel hold hardly more than a piece which it has not sent, so that a small
        frame that joins it is soon on its way.
        """
        cdef object plain = self.transport.get_extra_info("socket")
        if plain.family == socket.AF_UNIX:
            return
        try:
            plain.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, self.bodies.piece_bytes)
        except OSError:
            # The connection is gone, or the kernel does not know it: slower, but right.
            return

    cdef bint _idles(self) noexcept:
        """Whether the link has taken a piece as fast as we gave it, and waits for more."""
        cdef int queue
        if self._fd < 0 or self.bodies.piece_bytes >= PIECE_BYTES_MOST:
            return False
        queue = kernel_queue(self._fd)
        return 0 <= queue < <int>self.bodies.piece_bytes // 4

    cdef void _lengthen_pieces(self):
        if self.bodies.piece_bytes < PIECE_BYTES_MOST:
            self.bodies.piece_bytes *= 2
            self._pace_pieces()

    cdef void _widen(self):
        """No body is to be sent any more."""
        self._narrow = False
        self.transport.set_write_buffer_limits()

    # What the transport and the kernel have taken

    def pause_writing(self):
        """The transport's buffer is full: frames gather here, within bounds."""
        self.paused = True
        if self._narrow:
            self._full_us = self.tick.wheel.clock_us()
        self.count_queue()

    def resume_writing(self):
        """The transport's buffer has room again."""
        cdef int64_t took_us
        self.paused = False
        # The peer has taken something.
        self._heard = True
        if self._narrow:
            took_us = self.tick.wheel.clock_us() - self._full_us
            if took_us < PIECE_US_LEAST or self._idles():
                self._lengthen_pieces()
            elif took_us > PIECE_US_MOST and self.bodies.piece_bytes > PIECE_BYTES_LEAST:
                self.bodies.piece_bytes //= 2
                self._pace_pieces()
        self.count_queue()
        if self.gathered() or (self.bodies is not None and self.bodies.count):
            self.mark()

    cdef void count_queue(self):
        """Count what the transport could not send, until it has room again."""
        cdef size_t n = 0
        if self.paused and not self.closed:
            n = self.transport.get_write_buffer_size()
        self.budget.take(n)
        self.budget.give(self._queued)
        self._queued = n

    cdef bint moves(self):
        """Whether what the kernel had not sent at the last look has moved on since: bytes that
        move are a sign of life. What goes into an empty queue is none, for a kernel takes it
        whatever its program does.
        """
        cdef int queue, before = self._queue
        cdef int64_t taken
        if self._socket < 0 or self.closed or self.transport.is_closing():
            return False
        queue = kernel_queue(self._socket)
        if queue < 0:
            return False
        taken = <int64_t>self.bytes_out - <int64_t>self.transport.get_write_buffer_size() - queue
        moved = before > 0 and taken > self._taken
        self._queue = queue
        self._taken = taken
        return moved
