"""One connection between two programs: what its two ends have in common.

A session gathers all frames of a turn into one write, reads into its loop's buffer (a large body
straight into its final object), says HELLO and GOODBYE, answers pings, and notices a silent peer
within two heartbeat intervals. ``ClientSession`` and ``ServerSession`` are the ends. The
specification is ``docs/formats/mesh.md``.

Invariants: HELLO is the first frame each way; what gathers while the peer does not read is bounded
by ``out_bytes_max``; between two reads nothing is kept but the unfinished body, and, while the
session is held, what came in the read that it was held in.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
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

from dragoman.budget cimport Budget, process_budget
from dragoman.rpc.arrival cimport Progress
from dragoman.rpc.pieces cimport (
    APART_BYTES, PIECE_BYTES_LEAST, PIECE_BYTES_MOST, WHOLE_BYTES, Body, Outgoing,
)
from dragoman.rpc.tick cimport TAKEN_BYTES, tick_of, write_to
from dragoman.wire.mesh cimport (
    F_GOODBYE, F_HELLO, F_PING, FEATURE_PIECES, FLAG_VIOLATION, HEADER_BYTES, HELLO_BYTES,
    MESH_ERROR, MESH_NEED_MORE, MESH_VERSION, put_header, write_frame,
)

import logging
import socket
import struct

from dragoman.forking import closed, opened
from dragoman.observe.faults import log_fault
from dragoman.reasons import reason
from dragoman.errors import LinkLostError, ProtocolError

log = logging.getLogger("dragoman.rpc")

# What this process holds for its peers.
cdef Budget of_process = process_budget()
HELLO = struct.Struct("<4sHHII16s")
# Not named in Python 3.11.
cdef int TCP_NOTSENT_LOWAT = 25
# Bodies in pieces are numbered apart from frames in pieces.
cdef uint64_t BODIES = <uint64_t>1 << 63
cdef bytes MAGIC = b"DRGM"
cdef size_t OUT_BYTES_MAX = 64 * 1024 * 1024
cdef int GOODBYE_TEXT_BYTES_MAX = 1024
cdef double LINGER_S = 1.0
# The sender of a frame that is arriving hears of it so often: its own pings may stand behind it.
cdef int64_t ARRIVING_US = 200_000
# So much of a body leaves in a turn, however fast the peer.
cdef size_t PUMP_BYTES = 1048576
# A piece is to take so long: shorter ones cost speed, longer ones keep small calls waiting.
cdef int64_t PIECE_US_LEAST = 1000
cdef int64_t PIECE_US_MOST = 4000


cdef class Session(Arriving):
    """What both ends share: gathering, reading, heartbeat, goodbye. An
    ``asyncio.BufferedProtocol``.
    """

    def __cinit__(self, *args, **kwargs):
        self.out = Buffer()
        self.peer = "?"
        self._unsent = -1
        self._socket = -1

    cdef int _configure(
        self, loop, uint32_t body_bytes_max, double heartbeat_s, Budget budget=None
    ) except -1:
        self.loop = loop
        # Until HELLO has come a peer gets no memory for bodies.
        self.decoder = MeshDecoder(0)
        self.budget = of_process if budget is None else budget
        self.decoder.budget = self.budget
        self.decoder.split_pieces = True
        self.out.budget = self.budget
        self.body_bytes_max = body_bytes_max
        # Four of the largest bodies at least (see ``flush`` for those that we send), or one slow
        # moment would end the session.
        self.out_bytes_max = max(OUT_BYTES_MAX, 4 * <size_t>body_bytes_max)
        self.heartbeat_us = <int64_t>(heartbeat_s * 1e6)
        return 0

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

    cdef void flush(self):
        """End of the turn: everything gathered leaves in one write."""
        cdef size_t n = self.gathered()
        if self.closed or (n == 0 and self.bodies is None):
            return
        if self.paused:
            if n > self.out_bytes_max and n > 4 * self._largest:
                self.lose(f"{n} bytes wait for a peer that does not read")
            return
        if self.bodies is not None:
            if self.bodies.count:
                self._pump(False)
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
        """What has gathered with bodies apart leaves, in the order in which it came."""
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
        """Bytes that wait for the end of the turn, or for the peer to read."""
        cdef size_t n = self.out.length + self._parts_bytes
        if self.bodies is not None:
            n += self.bodies.bytes
        return n

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

    cdef int _pump(self, bint whole) except -1:
        """What has gathered leaves, and pieces of bodies as long as the kernel takes them; all of
        them if ``whole``.
        """
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

    cdef bint goes_apart(self, size_t n):
        """Whether a body of ``n`` bytes, more than APART_BYTES, goes in pieces."""
        return self.in_pieces and (
            n > WHOLE_BYTES or self.paused or (self.bodies is not None and self.bodies.count)
        )

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

    # asyncio.BufferedProtocol

    def connection_made(self, transport):
        """The transport is there; HELLO goes first."""
        cdef object address
        self.transport = transport
        self.tick = tick_of(self.loop)
        self._fd = -1
        plain = transport.get_extra_info("socket")
        if plain is not None:
            self._socket = plain.fileno()
            opened(self._socket)
            if transport.get_extra_info("ssl_object") is None:
                self._fd = self._socket
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = f"{address[0]}:{address[1]}"
        elif address:
            self.peer = str(address)
        self._heard = True
        self.tick.wheel.schedule(self, self.tick.wheel.clock_us() + self.heartbeat_us)

    def get_buffer(self, sizehint):
        """Where the next read goes: the loop's buffer, or the large body being put together."""
        cdef size_t room = 0
        cdef char* at
        if self.decoder.piece_left:
            at = self.arriving.direct(self.decoder.piece_left, &room) \
                if self.arriving is not None else NULL
            self._direct_piece = at != NULL
        else:
            at = self.decoder.direct(&room)
        if at != NULL:
            self._direct = True
            room = min(room, <size_t>TAKEN_BYTES)
            return PyMemoryView_FromMemory(at, room, PyBUF_WRITE)
        self._direct = False
        return self.tick.read_view

    def buffer_updated(self, Py_ssize_t n):
        """``n`` bytes have arrived."""
        self.tick.read_begins()
        # One look at the clock for all that this read brings.
        self.read_us = self.tick.now_us()
        self.bytes_in += n
        self._heard = True
        try:
            if self._direct:
                self._direct = False
                if self._direct_piece:
                    self._direct_piece = False
                    self.arriving.have += n
                    self.decoder.piece_left -= n
                    self.decoder.receive(NULL, 0)
                else:
                    self.decoder.direct_received(n)
            else:
                self.decoder.receive(self.tick.read_buffer, n)
            self.tick.begin_slice(self.read_us)
            self._process()
            if self.has_taken(n) and not self.closed:
                self.hold(HOLD_TURN)
                self.tick.line_up(self)
        finally:
            self.tick.read_ends(self.read_us)

    def data_received(self, bytes data not None):
        """Bytes have arrived: on loops that know a buffered protocol only by its base class."""
        self.read_us = self.tick.wheel.clock_us()
        self.bytes_in += len(data)
        self._heard = True
        self.decoder.receive(PyBytes_AS_STRING(data), len(data))
        self.tick.begin_slice(self.read_us)
        self._process()

    cdef int _process(self) except -1:
        self._process_frames()
        # Whatever handlers ran, none of them runs now.
        self.tick.request_session = None
        return 0

    cdef int _process_frames(self) except -1:
        cdef int event
        try:
            while not self.closed:
                if self._held:
                    self._put_by()
                    if self._held & HOLD_TURN:
                        self.on_batch()
                    return 0
                event = self.decoder.next_frame()
                if event == MESH_NEED_MORE:
                    if self.decoder.midway():
                        self.on_midway()
                    break
                if event == MESH_ERROR:
                    self.fail(self.decoder.error)
                    return 0
                self.on_frame()
                if self.tick.slice_over() and not self.closed and self.decoder.more():
                    self.hold(HOLD_TURN)
                    self.tick.line_up(self)
        except ProtocolError as error:
            self.fail(str(error))
            return 0
        except Exception as error:
            # A fault of our own must not leave the connection half processed.
            log_fault(log, error, "session with %s failed", self.peer)
            self.lose(f"internal error: {type(error).__name__}")
            return 0
        if not self.closed:
            if not self.decoder.idle() or (self.arriving is not None and self.arriving.open):
                self.frame_begun(self.tick.wheel)
                if self.read_us - self._told_us > min(ARRIVING_US, self.heartbeat_us // 4) \
                        and self.ready and not self.paused:
                    self._told_us = self.read_us
                    self.control(F_PING, 0, 0, 0, b"")
            self.on_batch()
        return 0

    cdef bint progress(self, Progress* frame) noexcept:
        if self.arriving is not None and self.arriving.open and not self.closed:
            # All its pieces are one frame, which the others between them do not keep from arriving.
            frame.frame = BODIES + self.arriving.number
            frame.have = self.arriving.have + self.decoder.have()
            frame.length = self.arriving.length
            frame.reading = not self._held
            return True
        if self.closed or self.decoder.idle():
            return False
        frame.frame = self.decoder.pieced
        frame.have = self.decoder.have()
        frame.length = HEADER_BYTES
        if self.decoder.midway() or self.decoder._skip:
            frame.length = self.decoder.length
        frame.reading = not self._held
        return True

    cdef void on_stalled(self, str why):
        self.fail(why)

    cdef int _put_by(self) except -1:
        """Keep what has come and is not to be looked at now."""
        cdef bytes rest = self.decoder.rest()
        self.budget.take(len(rest))
        # A transport that gives more to who does not read is taken at its word.
        self._stash = rest if self._stash is None else self._stash + rest
        return 0

    cdef void take_turn(self):
        self._held &= ~HOLD_TURN
        self._go_on()

    cdef void still_here(self):
        # Pings of the peer's are among what waits.
        if self.ready and not self.closed and not self.paused and self.gathered() == 0:
            self.control(F_PING, 0, 0, 0, b"")

    cdef void hold(self, int reason):
        """Take nothing more from the peer until every reason for that has gone (``release``)."""
        if not self._held and not self.closed:
            self.transport.pause_reading()
        self._held |= reason

    cdef void release(self, int reason):
        """A reason to hold has gone."""
        if self._held and not self._held & ~(reason | HOLD_TURN):
            # What was put by is dealt with when it is this session's turn.
            self.tick.line_up(self)
        self._held &= ~reason

    cdef int _go_on(self) except -1:
        cdef bytes stash = self._stash
        if self._held or self.closed:
            return 0
        self._stash = None
        if stash is not None:
            self.budget.give(len(stash))
            self.read_us = self.tick.wheel.clock_us()
            self.decoder.receive(PyBytes_AS_STRING(stash), len(stash))
            self._process()
        if not self._held and not self.closed:
            self.transport.resume_reading()
        return 0

    def eof_received(self):
        """The peer writes no more: the connection ends."""
        return None

    def pause_writing(self):
        """The transport's buffer is full: frames gather here, within bounds."""
        self.paused = True
        if self._narrow:
            self._full_us = self.tick.wheel.clock_us()
        self._count_queue()

    cdef void _count_queue(self):
        """What the transport could not send counts until it has room again."""
        cdef size_t n = 0
        if self.paused and not self.closed:
            n = self.transport.get_write_buffer_size()
        self.budget.take(n)
        self.budget.give(self._queued)
        self._queued = n

    cdef int on_midway(self) except -1:
        """A read has ended within a frame's body."""
        return 0

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
        self._count_queue()
        if self.gathered() or (self.bodies is not None and self.bodies.count):
            self.mark()

    def connection_lost(self, exc):
        """The connection is gone; whatever was in flight ends now."""
        if self.closed:
            self.tick.closing.discard(self.transport)
            return
        met = self.ready
        self.closed = True
        self.ready = False
        self._fd = -1
        closed(self._socket)
        self._socket = -1
        if self.failure is None:
            self.failure = LinkLostError(
                f"connection to {self.peer} lost" + (f": {reason(exc)}" if exc else "")
                + ("" if met else self.unmet()),
                endpoint=self.peer,
            )
        if self._stash is not None:
            self.budget.give(len(self._stash))
            self._stash = None
        self._count_queue()
        self.decoder.drop()
        self.out.drop()
        self._parts = None
        self.budget.give(self._parts_bytes)
        self._parts_bytes = 0
        if self.arriving is not None:
            self.arriving.drop()
        self.tick.wheel.cancel(self)
        self.end_watch()
        self.on_closed()
        if self.bodies is not None:
            self.bodies.drop()

    cdef void on_due(self):
        """Twice a heartbeat interval: ping a peer that was silent for a half, give it up an
        interval later.
        """
        if self.closed:
            return
        if not self.ready:
            self.lose("no HELLO within a heartbeat interval")
            return
        if self.paused:
            # Perhaps we do not read either until the peer has taken something: that is its sign of
            # life.
            unsent = self.transport.get_write_buffer_size()
            if unsent != self._unsent:
                self._unsent = unsent
                self._heard = True
        if not self._heard and self._moves():
            self._heard = True
        if self.gathered() == 0:
            # An idle session keeps no memory that its busy times needed.
            self.out.release()
        self.on_idle_check()
        if self.closed:
            return
        if self._held and not self.paused:
            # It is we who do not read, nor would we read its end: writing finds out.
            self._heard = True
            self.control(F_PING, 0, 0, 0, b"")
        if self._heard:
            self._heard = False
            self._quiet = 0
        else:
            self._quiet += 1
            if self._quiet == 1:
                self.control(F_PING, 0, 0, 0, b"")
            elif self._quiet == 3:
                self.lose("no sign of life within two heartbeat intervals")
                return
        self.tick.wheel.schedule(self, self.tick.wheel.clock_us() + self.heartbeat_us // 2)

    cdef bint _moves(self):
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

    cdef str unmet(self):
        """What may be wrong with a peer that left without a HELLO, in words that follow others."""
        return ""

    cdef void fail(self, str why):
        """The peer broke the protocol: say why to both sides, and close at once."""
        if self.closed:
            return
        if self.failure is None:
            self.failure = ProtocolError(f"{self.peer}: {why}", endpoint=self.peer)
        if self.bodies is not None and self.bodies.count:
            # The transport is full because we keep it so, not because the peer does not read.
            self.paused = False
            self.bodies.drop()
        if self.ready and not self.paused:
            # The reason is to reach the peer, if it reads; one that does not is not waited for.
            self.bid_goodbye(why, FLAG_VIOLATION)
            self.flush()
            self.transport.close()
            self.loop.call_later(LINGER_S, self.transport.abort)
            self.connection_lost(None)
        self._drop()

    cdef void bid_goodbye(self, str why, int flags):
        """Queue a GOODBYE with a reason."""
        cdef bytes text = why.encode("utf-8", "replace")[:GOODBYE_TEXT_BYTES_MAX]
        self.put(F_GOODBYE, flags, 0, 0, 0, PyBytes_AS_STRING(text), len(text), None)
        self.goodbye_sent = True

    cdef bint _read_goodbye(self) except -1:
        """The peer's GOODBYE: whether it drains. Else we have broken the protocol, it says."""
        cdef str why = self.decoder.body[:self.decoder.length].decode("utf-8", "replace")
        self.goodbye_received = True
        self.goodbye_reason = why
        if not self.decoder.flags & FLAG_VIOLATION:
            return True
        if self.failure is None:
            self.failure = ProtocolError(
                f"{self.peer} ended the session: {why}", endpoint=self.peer
            )
        self._drop()
        return False

    cdef void lose(self, str why):
        """The peer is dead or hopeless: close at once, saying why to our own side."""
        if self.failure is None:
            self.failure = LinkLostError(f"{self.peer}: {why}", endpoint=self.peer)
        self._drop()

    cdef void _drop(self):
        if not self.closed:
            self.transport.abort()
            self.connection_lost(None)

    def close(self):
        """Close now; what is gathered still leaves, what is in flight is lost."""
        if self.closed or self.transport is None:
            return
        if self.failure is None:
            self.failure = LinkLostError(f"connection to {self.peer} closed", endpoint=self.peer)
        self.paused = False
        if self.bodies is not None and self.bodies.count:
            self._pump(True)
        self.flush()
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.tick.closing.add(self.transport)
        self.connection_lost(None)

    cdef bint on_frame(self) except -1:
        return True

    cdef void on_idle_check(self):
        """Twice a heartbeat interval."""

    cdef void on_batch(self):
        pass

    cdef void on_closed(self):
        pass

    cdef void _hello(self, uint32_t features, bytes identity, bytes name):
        self.control(
            F_HELLO, 0, 0, 0,
            HELLO.pack(
                MAGIC, MESH_VERSION, MESH_VERSION, features | FEATURE_PIECES,
                self.body_bytes_max, identity,
            ) + name,
        )

    cdef int _read_hello(self) except -1:
        cdef bytes body = self.decoder.body[:HELLO_BYTES]
        magic, lowest, highest, features, body_bytes_max, identity = HELLO.unpack(body)
        if magic != MAGIC:
            raise ProtocolError("not a dragoman mesh peer: wrong magic in HELLO")
        if not lowest <= MESH_VERSION <= highest:
            raise ProtocolError(
                f"peer speaks mesh versions {lowest} to {highest}, not {MESH_VERSION}"
            )
        # Features that only one end knows are not used.
        self.peer_features = features
        self.peer_identity = identity
        self.peer_body_bytes_max = body_bytes_max
        self.decoder.body_bytes_max = self.body_bytes_max
        # Within a process nothing is gained by it.
        self.in_pieces = features & FEATURE_PIECES \
            and self.transport.get_extra_info("socket") is not None
        self.ready = True
        return 0
