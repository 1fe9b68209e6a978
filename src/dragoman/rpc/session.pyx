"""One connection between two programs: what its two ends have in common.

A session sends as ``rpc.sending`` does, reads into its loop's buffer (a large body straight into
its final object), says HELLO and GOODBYE, answers pings, and notices a silent peer within two
heartbeat intervals. ``ClientSession`` and ``ServerSession`` are the ends. The specification is
``docs/formats/mesh.md``.

Invariants: HELLO is the first frame each way; between two reads nothing is kept but the unfinished
body, and, while the session is held, what came in the read that it was held in.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from libc.stdint cimport int64_t, uint32_t, uint64_t

from dragoman.budget cimport Budget, process_budget
from dragoman.rpc.arrival cimport Progress
from dragoman.rpc.sending cimport Sending
from dragoman.rpc.tick cimport TAKEN_BYTES, tick_of
from dragoman.wire.mesh cimport (
    F_GOODBYE, F_HELLO, F_PING, FEATURE_PIECES, FLAG_VIOLATION, HEADER_BYTES, HELLO_BYTES,
    MESH_ERROR, MESH_NEED_MORE, MESH_VERSION,
)

import logging
import struct

from dragoman.forking import closed, opened
from dragoman.observe.faults import log_fault
from dragoman.reasons import reason
from dragoman.errors import LinkLostError, ProtocolError

log = logging.getLogger("dragoman.rpc")

# What this process holds for its peers.
cdef Budget of_process = process_budget()
HELLO = struct.Struct("<4sHHII16s")
# Bodies in pieces are numbered apart from frames in pieces.
cdef uint64_t BODIES = <uint64_t>1 << 63
cdef bytes MAGIC = b"DRGM"
cdef size_t OUT_BYTES_MAX = 64 * 1024 * 1024
cdef int GOODBYE_TEXT_BYTES_MAX = 1024
cdef double LINGER_S = 1.0
# The sender of a frame that is arriving hears of it so often: its own pings may stand behind it.
cdef int64_t ARRIVING_US = 200_000


cdef class Session(Sending):
    """Either end: gathering, reading, heartbeat, goodbye. An ``asyncio.BufferedProtocol``."""

    def __cinit__(self, *args, **kwargs):
        self.peer = "?"
        self._unsent = -1

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
                self.hold(HOLD_SLICE)
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
                    if self._held & HOLD_SLICE:
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
                    self.hold(HOLD_SLICE)
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
        self._held &= ~HOLD_SLICE
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
        if self._held and not self._held & ~(reason | HOLD_SLICE):
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

    cdef int on_midway(self) except -1:
        """A read has ended within a frame's body."""
        return 0

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
        self.count_queue()
        self.decoder.drop()
        self.drop_gathered()
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
        if not self._heard and self.moves():
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

    cdef str unmet(self):
        """A guess at what is wrong with a peer that left without a HELLO, to follow other words."""
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
            self.pump(True)
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

    cdef void lose(self, str why):
        """The peer is dead or hopeless: close at once, saying why to our own side."""
        if self.failure is None:
            self.failure = LinkLostError(f"{self.peer}: {why}", endpoint=self.peer)
        self._drop()
