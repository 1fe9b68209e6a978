"""One connection between two programs, and the requests in flight on it.

``ClientSession`` sends requests against credits and matches replies by id; ``ServerSession``
receives them and answers in any order. Both gather all frames of a turn into one write, read into
their loop's buffer (a large body straight into its final object), answer pings, and notice a silent
peer within two heartbeat intervals. Who calls: ``rpc.link`` and ``cluster`` on the client's side, a
``Handler`` on the server's. The specification is ``docs/formats/mesh.md``.

Invariants: every submitted call ends exactly once (reply, error or loss) unless it is abandoned; a
request leaves only against a credit; an id is not used again before 2**32 - 1 others were, and
never is 0; HELLO is the first frame each way; what gathers while the peer does not read is bounded
by ``out_bytes_max``.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from dragoman.rpc.turn cimport turn_of
from dragoman.wire.mesh cimport (
    F_CANCEL, F_CREDIT, F_DEMAND, F_ERROR, F_GOODBYE, F_HELLO, F_NAME, F_PING, F_PONG, F_RECLAIM,
    F_REPLY, F_REQUEST, F_RETURN, FLAG_RETRY_SAFE, HEADER_BYTES, HELLO_BYTES, MESH_ERROR,
    MESH_NEED_MORE, MESH_VERSION, put_header, write_frame,
)

import logging
import struct

from dragoman.errors import Code, LinkLost, ProtocolError, UsageError

log = logging.getLogger("dragoman.rpc")

HELLO = struct.Struct("<4sHHII")
cdef bytes MAGIC = b"DRGM"
cdef double HEARTBEAT_S = 5.0
cdef size_t OUT_BYTES_MAX = 64 * 1024 * 1024
cdef int METHODS_MAX = 1024
cdef int ERROR_TEXT_BYTES_MAX = 4096
# More credits than this at once are no limit any more, but a mistake.
cdef uint32_t CREDITS_MAX = 1 << 24


cdef class Session(Gathering):
    """What both ends share: gathering, reading, heartbeat, goodbye. An
    ``asyncio.BufferedProtocol``.
    """

    def __cinit__(self, *args, **kwargs):
        self.out = Buffer()
        self.peer = "?"
        self._unsent = -1

    cdef int _configure(self, loop, uint32_t body_bytes_max, double heartbeat_s) except -1:
        self.loop = loop
        # Until HELLO has come a peer gets no memory for bodies.
        self.decoder = MeshDecoder(0)
        self.body_bytes_max = body_bytes_max
        # Four of the largest bodies at least, or one slow moment would end the session.
        self.out_bytes_max = max(OUT_BYTES_MAX, 4 * <size_t>body_bytes_max)
        self.heartbeat_us = <int64_t>(heartbeat_s * 1e6)
        return 0

    cdef inline void mark(self):
        if not self._marked:
            self.turn.mark(self)

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
        cdef size_t n = self.out.length
        if n == 0 or self.closed:
            return
        if self.paused:
            if n > self.out_bytes_max:
                self.lose(f"{n} bytes wait for a peer that does not read")
            return
        self.bytes_out += n
        self.writes += 1
        self.transport.write(self.out.take())

    # asyncio.BufferedProtocol

    def connection_made(self, transport):
        """The transport is there; HELLO goes first."""
        cdef object address
        self.transport = transport
        self.turn = turn_of(self.loop)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = f"{address[0]}:{address[1]}"
        elif address:
            self.peer = str(address)
        self._heard = True
        self.turn.wheel.schedule(self, self.turn.wheel.clock_us() + self.heartbeat_us)

    def get_buffer(self, sizehint):
        """Where the next read goes: the loop's buffer, or the large body being put together."""
        cdef size_t room = 0
        cdef char* at = self.decoder.direct(&room)
        if at != NULL:
            self._direct = True
            return PyMemoryView_FromMemory(at, room, PyBUF_WRITE)
        self._direct = False
        return self.turn.read_view

    def buffer_updated(self, Py_ssize_t n):
        """``n`` bytes have arrived."""
        # One look at the clock for all that this read brings.
        self.read_us = self.turn.wheel.clock_us()
        self.turn.read_begins()
        self.bytes_in += n
        self._heard = True
        try:
            if self._direct:
                self._direct = False
                self.decoder.direct_received(n)
            else:
                self.decoder.receive(self.turn.read_buffer, n)
            self._process()
        finally:
            self.turn.read_ends(self.read_us)

    def data_received(self, bytes data not None):
        """Bytes have arrived: on loops that know a buffered protocol only by its base class."""
        self.read_us = self.turn.wheel.clock_us()
        self.bytes_in += len(data)
        self._heard = True
        self.decoder.receive(PyBytes_AS_STRING(data), len(data))
        self._process()

    cdef int _process(self) except -1:
        cdef int event
        try:
            while not self.closed:
                event = self.decoder.next_frame()
                if event == MESH_NEED_MORE:
                    break
                if event == MESH_ERROR:
                    self.fail(self.decoder.error)
                    return 0
                self.on_frame()
        except ProtocolError as error:
            self.fail(str(error))
            return 0
        except Exception as error:
            # A fault of our own must not leave the connection half processed.
            log.exception("session with %s failed", self.peer)
            self.lose(f"internal error: {error!r}")
            return 0
        if not self.closed:
            self.on_batch()
        return 0

    def eof_received(self):
        """The peer writes no more: the connection ends."""
        return None

    def pause_writing(self):
        """The transport's buffer is full: frames gather here, within bounds."""
        self.paused = True

    def resume_writing(self):
        """The transport's buffer has room again."""
        self.paused = False
        if self.out.length:
            self.mark()

    def connection_lost(self, exc):
        """The connection is gone; whatever was in flight ends now."""
        if self.closed:
            return
        self.closed = True
        self.ready = False
        if self.failure is None:
            self.failure = LinkLost(
                f"connection to {self.peer} lost" + (f": {exc}" if exc else ""), endpoint=self.peer
            )
        self.turn.wheel.cancel(self)
        self.on_closed()

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
        self.turn.wheel.schedule(self, self.turn.wheel.clock_us() + self.heartbeat_us // 2)

    cdef void fail(self, str why):
        """The peer broke the protocol: close at once, saying why to our own side."""
        if self.failure is None:
            self.failure = ProtocolError(f"{self.peer}: {why}", endpoint=self.peer)
        self._drop()

    cdef void lose(self, str why):
        """The peer is dead or hopeless: close at once, saying why to our own side."""
        if self.failure is None:
            self.failure = LinkLost(f"{self.peer}: {why}", endpoint=self.peer)
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
            self.failure = LinkLost(f"connection to {self.peer} closed", endpoint=self.peer)
        self.paused = False
        self.flush()
        self.transport.close()
        self.connection_lost(None)

    cdef bint on_frame(self) except -1:
        return True

    cdef void on_batch(self):
        pass

    cdef void on_closed(self):
        pass

    cdef void _hello(self, bytes name):
        self.control(
            F_HELLO, 0, 0, 0,
            HELLO.pack(MAGIC, MESH_VERSION, MESH_VERSION, 0, self.body_bytes_max) + name,
        )

    cdef int _read_hello(self) except -1:
        cdef bytes body = self.decoder.body[:HELLO_BYTES]
        # Features that only the peer knows are not used; there are none yet.
        magic, lowest, highest, _features, body_bytes_max = HELLO.unpack(body)
        if magic != MAGIC:
            raise ProtocolError("not a dragoman mesh peer: wrong magic in HELLO")
        if not lowest <= MESH_VERSION <= highest:
            raise ProtocolError(
                f"peer speaks mesh versions {lowest} to {highest}, not {MESH_VERSION}"
            )
        self.peer_body_bytes_max = body_bytes_max
        self.decoder.body_bytes_max = self.body_bytes_max
        self.ready = True
        return 0


cdef class Call(Waiter):
    """One request. Subclasses say what happens when it ends; exactly one of these is called, once.
    """

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        """The reply; ``body`` is valid during this call only, unless ``owner`` (which holds it) is
        kept.
        """

    cdef void on_error(self, int code, bint retry_safe, str message):
        """It failed: ``code`` of ``errors.Code``; ``retry_safe`` only if it certainly never ran."""


cdef class SessionOwner:
    """Who is told of a client session's life."""

    cdef void on_ready(self, ClientSession session):
        """The handshake is done."""

    cdef void on_credit(self, ClientSession session):
        """``session.room()`` has changed otherwise than by ``submit``: after each read, when
        gathered requests have left, and when the connection is gone but its calls have not been
        ended yet.
        """

    cdef void on_goodbye(self, ClientSession session):
        """The server drains: send nothing new."""

    cdef void on_lost(self, ClientSession session):
        """The connection is gone; its calls have been ended."""


cdef class ClientSession(Session):
    """The calling end. ``credits`` says how many requests may be submitted now."""

    def __cinit__(
        self, loop, SessionOwner owner, *, bytes name=b"", uint32_t body_bytes_max=16777216,
        double heartbeat_s=HEARTBEAT_S, uint32_t first_id=1,
    ):
        self._configure(loop, body_bytes_max, heartbeat_s)
        self.owner = owner
        self._mask = 1023
        self._slots = <Slot*>calloc(self._mask + 1, sizeof(Slot))
        if self._slots == NULL:
            raise MemoryError
        self._next_id = first_id
        self._flushed_id = first_id - 1
        self._methods = {}
        self._name = name

    def __dealloc__(self):
        cdef uint32_t i
        if self._slots != NULL:
            for i in range(self._mask + 1):
                if self._slots[i].call != NULL:
                    Py_DECREF(<object>self._slots[i].call)
            free(self._slots)

    def connection_made(self, transport):
        """Say hello."""
        Session.connection_made(self, transport)
        self._hello(self._name)

    cdef uint16_t method_id(self, bytes name) except 0:
        """The small id of a method; the first use names it to the server, in the same write. Raises
        UsageError when there are no ids left.
        """
        cdef object known = self._methods.get(name)
        if known is None:
            if len(self._methods) >= METHODS_MAX:
                raise UsageError(f"more than {METHODS_MAX} methods on one session")
            known = len(self._methods) + 1
            self._methods[name] = known
            self.control(F_NAME, known, 0, 0, name)
        return known

    cdef Slot* _slot(self, uint32_t id) noexcept:
        cdef Slot* slot = &self._slots[id & self._mask]
        if slot.used and slot.id == id:
            return slot
        return NULL

    cdef int _grow_slots(self) except -1:
        cdef uint32_t mask = self._mask * 2 + 1
        cdef Slot* slots = <Slot*>calloc(mask + 1, sizeof(Slot))
        cdef uint32_t i
        if slots == NULL:
            raise MemoryError
        # Ids that differ in the smaller table's slots differ in the larger one's too.
        for i in range(self._mask + 1):
            if self._slots[i].used:
                slots[self._slots[i].id & mask] = self._slots[i]
        free(self._slots)
        self._slots = slots
        self._mask = mask
        return 0

    cdef int submit(
        self, Call call, uint16_t target, const char* body, size_t n, uint32_t timeout_ms
    ) except -1:
        """Send a request against a credit (the caller has checked ``room`` and the body's length).
        """
        cdef Slot* slot
        cdef char* at
        if <uint32_t>self.inflight * 2 > self._mask:
            self._grow_slots()
        slot = &self._slots[self._next_id & self._mask]
        while slot.used or self._next_id == 0:
            self._next_id += 1
            slot = &self._slots[self._next_id & self._mask]
        slot.used = True
        slot.id = self._next_id
        slot.call = <void*>call
        Py_INCREF(call)
        call.session = self
        call.id = self._next_id
        at = self.out.reserve(HEADER_BYTES + n)
        put_header(at, <uint32_t>n, F_REQUEST, 0, target, self._next_id, timeout_ms)
        memcpy(at + HEADER_BYTES, body, n)
        self.out.length += HEADER_BYTES + n
        self._next_id += 1
        self.credits -= 1
        self.inflight += 1
        self.mark()
        return 0

    cdef int room(self):
        """How many requests may be submitted now: the credits, or none while too many bytes gather.
        """
        if self.out.length > self.out_bytes_max // 2:
            self._choked = True
            return 0
        return self.credits

    cdef void flush(self):
        Session.flush(self)
        if self.out.length == 0:
            self._flushed_id = self._next_id - 1
            if self._choked and not self.closed:
                self._choked = False
                self.owner.on_credit(self)

    cdef void abandon(self, Call call):
        """The caller no longer wants the reply. The server is told; the credit comes back with its
        answer.
        """
        cdef Slot* slot
        if call.session is not self:
            return
        slot = self._slot(call.id)
        call.session = None
        if slot != NULL and slot.call == <void*>call:
            slot.call = NULL
            self.control(F_CANCEL, 0, call.id, 0, b"")
            Py_DECREF(call)

    cdef void tell_waiting(self, int waiting):
        """Tell the server how many requests wait for credit, if that has changed enough to matter.
        """
        if not self.ready or waiting == self._told_waiting:
            return
        if waiting and self._told_waiting > 0 and waiting < self._told_waiting * 2 \
                and waiting * 2 > self._told_waiting:
            return
        self._told_waiting = waiting
        self.control(F_DEMAND, 0, 0, waiting, b"")

    cdef bint _end(self, Slot* slot):
        self.inflight -= 1
        slot.used = False
        slot.call = NULL
        return True

    cdef bint on_frame(self) except -1:
        cdef MeshDecoder frame = self.decoder
        cdef Slot* slot
        cdef Call call
        cdef uint8_t kind = frame.kind
        if not self.ready:
            if kind != F_HELLO:
                raise ProtocolError(f"mesh frame type {kind} before HELLO")
            self._read_hello()
            self.owner.on_ready(self)
            return True
        if kind == F_REPLY or kind == F_ERROR:
            slot = self._slot(frame.id)
            if slot == NULL:
                # Late or duplicate, and so are the credits it claims to bring.
                self.frames_dropped += 1
                return True
            self._gain(frame.value)
            if slot.call == NULL:
                self._end(slot)
                return True
            call = <Call>slot.call
            self._end(slot)
            Py_DECREF(call)
            call.session = None
            if kind == F_REPLY:
                call.on_reply(frame.body, frame.length, frame.owner)
            else:
                call.on_error(
                    frame.target, frame.flags & FLAG_RETRY_SAFE,
                    frame.body[:frame.length].decode("utf-8", "replace"),
                )
        elif kind == F_CREDIT:
            self._gain(frame.value)
            if self._told_waiting:
                # The server has counted the grant against what it was told: say it anew.
                self._told_waiting = -1
        elif kind == F_RECLAIM:
            # Answered after the batch, when those who waited for what came with it have had their
            # turn.
            self._reclaims += 1
            self._reclaimed = min(self._reclaimed + <uint64_t>frame.value, CREDITS_MAX)
        elif kind == F_PING:
            self.control(F_PONG, 0, 0, frame.value, b"")
        elif kind == F_PONG:
            pass
        elif kind == F_GOODBYE:
            self.goodbye_received = True
            self.owner.on_goodbye(self)
        elif kind == F_HELLO:
            raise ProtocolError("a second HELLO")
        else:
            raise ProtocolError(f"mesh frame type {kind} from a server")
        return True

    cdef int _gain(self, uint32_t n) except -1:
        if n > CREDITS_MAX or self.credits + n > CREDITS_MAX:
            raise ProtocolError(f"{n} credits granted to a holder of {self.credits}")
        self.credits += n
        return 0

    cdef void _give_back(self):
        """Answer the server's reclaims with one RETURN of what is not in use."""
        cdef int n = min(self.credits, <int>self._reclaimed)
        self._reclaims = 0
        self._reclaimed = 0
        self.credits -= n
        self.control(F_RETURN, 0, 0, n, b"")

    cdef void on_batch(self):
        self.owner.on_credit(self)
        if self._reclaims:
            self._give_back()
            # The owner must not go on with the room it had before.
            self.owner.on_credit(self)
        if self.goodbye_received and self.inflight == 0 and not self.closed:
            self.close()

    cdef void on_closed(self):
        cdef uint32_t i
        cdef Call call
        cdef Slot* slot
        cdef bint unsent
        cdef str why = str(self.failure)
        cdef int code = Code.UPSTREAM_LOST
        if type(self.failure) is ProtocolError:
            code = Code.UPSTREAM_PROTOCOL
        # Nobody may submit here while the calls end.
        self.credits = 0
        self.owner.on_credit(self)
        for i in range(self._mask + 1):
            slot = &self._slots[i]
            if slot.used and slot.call != NULL:
                call = <Call>slot.call
                # Unsent calls never reached the transport: they may go elsewhere.
                unsent = <int32_t>(slot.id - self._flushed_id) > 0
                self._end(slot)
                Py_DECREF(call)
                call.session = None
                call.on_error(code, unsent, why)
            elif slot.used:
                self._end(slot)
        self.owner.on_lost(self)

    def statistics(self):
        """A plain dict of this session's counters."""
        return {
            "credits": self.credits, "inflight": self.inflight, "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out, "writes": self.writes,
            "frames_dropped": self.frames_dropped,
        }


cdef class Handler:
    """What a server does with requests."""

    cdef int method(self, bytes name) except -1:
        """The handler's own number (>= 0) for a method name, -2 for an unknown one."""
        return 0

    cdef bint on_request(
        self, ServerSession session, uint32_t id, uint16_t method, uint32_t timeout_ms,
        const char* body, Py_ssize_t n, bytes owner
    ) except -1:
        """A request; ``body`` is valid during this call only, unless ``owner`` is not None and
        kept. The handler answers with ``session.reply`` or ``session.error``, once, now or later,
        and gives what ``session.pool.done(session.holder)`` returns as ``credits`` when the
        request's place is free. It must not raise: that ends the session, and the request's credit
        with it.
        """
        return True

    cdef void on_cancel(self, ServerSession session, uint32_t id):
        """The caller no longer wants the reply to ``id`` (which may have been given already)."""

    cdef void on_batch(self, ServerSession session):
        """After a read."""

    cdef void on_lost(self, ServerSession session):
        """The caller is gone; replies to it go nowhere."""


cdef class SessionHolder(Holder):
    """The pool's words to a caller, as frames of its session."""

    cdef void grant(self, int n):
        self.session.credit(n)

    cdef void reclaim(self, int n):
        self.session.control(F_RECLAIM, 0, 0, n, b"")


cdef class ServerSession(Session):
    """The answering end. ``sessions`` is a set that this session keeps itself in while it lives."""

    def __cinit__(
        self, loop, Handler handler, CreditPool pool, sessions, *, uint32_t body_bytes_max=16777216,
        double heartbeat_s=HEARTBEAT_S,
    ):
        self._configure(loop, body_bytes_max, heartbeat_s)
        self.handler = handler
        self.pool = pool
        self._sessions = sessions
        self._methods = [-1]
        self.holder = SessionHolder()
        self.holder.session = self

    def connection_made(self, transport):
        """A caller has connected."""
        Session.connection_made(self, transport)
        self._sessions.add(self)

    cdef void reply(self, uint32_t id, const char* body, size_t n, int credits):
        """Answer a request; ``credits`` go back with it."""
        cdef char* at
        if self.closed:
            return
        if n > self.peer_body_bytes_max:
            self.error(
                id, Code.TOO_LARGE, False,
                f"the reply has {n} bytes, the caller takes {self.peer_body_bytes_max}", credits,
            )
            return
        at = self.out.reserve(HEADER_BYTES + n)
        put_header(at, <uint32_t>n, F_REPLY, 0, 0, id, credits)
        memcpy(at + HEADER_BYTES, body, n)
        self.out.length += HEADER_BYTES + n
        self.mark()

    cdef void error(self, uint32_t id, int code, bint retry_safe, str message, int credits):
        """Answer a request with an error."""
        cdef bytes text
        if self.closed:
            return
        text = message.encode("utf-8", "replace")
        if len(text) > ERROR_TEXT_BYTES_MAX or len(text) > <Py_ssize_t>self.peer_body_bytes_max:
            text = text[:min(ERROR_TEXT_BYTES_MAX, self.peer_body_bytes_max)]
        write_frame(
            self.out, F_ERROR, FLAG_RETRY_SAFE if retry_safe else 0, code, id, credits,
            PyBytes_AS_STRING(text), len(text),
        )
        self.mark()

    cdef void credit(self, int n):
        """Grant ``n`` more credits outside a reply."""
        self.control(F_CREDIT, 0, 0, n, b"")

    def goodbye(self):
        """Tell the caller that this server drains: it sends nothing new and closes when all is
        answered.
        """
        if not self.goodbye_sent and not self.closed:
            self.goodbye_sent = True
            if self.ready:
                self.control(F_GOODBYE, 0, 0, 0, b"")
            else:
                self.close()

    cdef bint on_frame(self) except -1:
        cdef MeshDecoder frame = self.decoder
        cdef uint8_t kind = frame.kind
        if not self.ready:
            if kind != F_HELLO:
                raise ProtocolError(f"mesh frame type {kind} before HELLO")
            self._read_hello()
            self._hello(b"")
            self.pool.join(self.holder)
            return True
        if kind == F_REQUEST:
            if frame.target == 0 or frame.target >= len(self._methods):
                raise ProtocolError(f"request for method id {frame.target}, which was never named")
            if not self.pool.began(self.holder):
                raise ProtocolError("request without a credit")
            self.requests += 1
            if self._methods[frame.target] < 0:
                self.error(
                    frame.id, Code.NOT_FOUND, True, "no such method", self.pool.done(self.holder)
                )
                return True
            self.handler.on_request(
                self, frame.id, self._methods[frame.target], frame.value,
                frame.body, frame.length, frame.owner,
            )
        elif kind == F_CANCEL:
            self.handler.on_cancel(self, frame.id)
        elif kind == F_DEMAND:
            self.pool.demand(self.holder, min(frame.value, CREDITS_MAX))
        elif kind == F_RETURN:
            if frame.value > <uint32_t>(self.holder.held - self.holder.in_use):
                raise ProtocolError(f"{frame.value} credits given back that were not held")
            self.pool.returned(self.holder, frame.value)
        elif kind == F_NAME:
            if frame.target != len(self._methods) or frame.target > METHODS_MAX:
                raise ProtocolError(
                    f"method id {frame.target} named, {len(self._methods)} was next"
                )
            self._methods.append(self.handler.method(frame.body[:frame.length]))
        elif kind == F_PING:
            self.control(F_PONG, 0, 0, frame.value, b"")
        elif kind == F_PONG:
            pass
        elif kind == F_HELLO:
            raise ProtocolError("a second HELLO")
        else:
            raise ProtocolError(f"mesh frame type {kind} from a client")
        return True

    cdef void on_batch(self):
        self.handler.on_batch(self)

    def pause_writing(self):
        """The caller does not read its replies: stop taking its requests."""
        Session.pause_writing(self)
        self.transport.pause_reading()

    def resume_writing(self):
        """The caller reads again."""
        Session.resume_writing(self)
        if not self.closed:
            self.transport.resume_reading()

    cdef void on_closed(self):
        if type(self.failure) is ProtocolError:
            log.warning("session ended: %s", self.failure)
        self._sessions.discard(self)
        if self.ready or self.holder.pool is not None:
            self.pool.leave(self.holder)
        self.handler.on_lost(self)
