"""The calling end of a connection: requests go out against credits, replies are matched by id.

``rpc.client`` and ``cluster`` own sessions and submit their own kinds of ``Call``. Each request has
a slot in a table, found by the low bits of its id; a call may have one request or many, each with
an index of its own (``submit_many``).

Invariants: every submitted request ends exactly once (reply, error or loss) unless it is abandoned;
a request leaves only against a credit; an id is not used again before 2**32 - 1 others were, and
never is 0.

Long because the table of requests, the credits and the frames that change both are one state.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from dragoman.flow.waiting cimport Waiter
from dragoman.rpc.pieces cimport APART_BYTES, Body, Incoming
from dragoman.rpc.sending cimport SPILL_BYTES
from dragoman.rpc.session cimport Session
from dragoman.wire.mesh cimport (
    F_CANCEL, F_CREDIT, F_DEMAND, F_ERROR, F_GOODBYE, F_HELLO, F_METADATA, F_NAME, F_ORDER, F_PIECE,
    F_PING, F_PONG, F_RECLAIM, F_REPLY, F_REQUEST, F_RETURN, FEATURE_METADATA, FEATURE_NO_REPLY,
    FEATURE_ORDER, FLAG_NO_REPLY, FLAG_RETRY_SAFE, HEADER_BYTES, MeshDecoder, put_header,
    write_frame,
)

from dragoman.errors import ANSWERED, Code, ProtocolError, UsageError

cdef uint16_t ANSWERED_BIT = ANSWERED
cdef int METHODS_MAX = 1024
# So much that waits for a server which does not read is joined by no answer to its pings.
cdef size_t UNREAD_BYTES_MAX = 1 << 20
# There is always room for a shorter body.
cdef size_t SMALL_BYTES = 4096
# So many requests may be without a reply: the table has 16 to 64 bytes for each.
cdef int INFLIGHT_MAX = 1 << 20
# More credits than this at once are no limit any more, but a mistake.
cdef uint32_t CREDITS_MAX = 1 << 24
# The table of an idle session: there may be thousands of them.
cdef uint32_t LEAST_MASK = 15


cdef class Call(Waiter):
    """A call that waits for replies, to one request or many. For each request exactly one of
    ``on_reply`` and ``on_error`` is called, once, with ``index`` set to that of the request.
    """

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        """The reply; ``body`` is valid during this call only, unless ``owner`` (which holds it) is
        kept.
        """

    cdef void on_error(self, int code, bint retry_safe, str message):
        """It failed: ``code`` of ``errors.Code``; ``retry_safe`` only if it certainly never ran;
        ``answered`` is set if the callee itself said so.
        """

    cdef bint unwanted(self):
        """Whether nobody waits any more, so that ``sweep`` may abandon it."""
        return False

    cdef object sender(self):
        """The one of those that share the session that has sent it."""
        return None

    cdef int64_t since(self):
        """The time when it was sent, in microseconds of the wheel."""
        return 0


cdef class SessionOwner:
    """The owner of client sessions, which is told of their lives."""

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
        self, loop, SessionOwner owner, *, bytes name=b"", bytes identity=b"\0" * 16,
        uint32_t body_bytes_max=16777216, double heartbeat_s=5.0, uint32_t first_id=1,
        budget=None,
    ):
        self._configure(loop, body_bytes_max, heartbeat_s, budget)
        self.owner = owner
        self._mask = LEAST_MASK
        self._slots = <Slot*>calloc(self._mask + 1, sizeof(Slot))
        if self._slots == NULL:
            raise MemoryError
        self._next_id = first_id
        self._flushed_id = first_id - 1
        self._swept_id = first_id - 1
        self._methods = {}
        self._name = name
        self._identity = identity

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
        self._hello(
            FEATURE_NO_REPLY | FEATURE_ORDER | FEATURE_METADATA, self._identity, self._name
        )

    cdef str unmet(self):
        return " before its HELLO: does it expect TLS, or another protocol?"

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

    def goodbye(self):
        """Tell the server that this client asks for nothing more: what it holds unused is free."""
        if self.ready and not self.goodbye_sent and not self.closed:
            self.credits = 0
            self.bid_goodbye("", 0)

    cdef inline Slot* _slot(self, uint32_t id) noexcept:
        cdef Slot* slot = &self._slots[id & self._mask]
        if slot.place and slot.id == id:
            return slot
        return NULL

    cdef int _resize(self, uint32_t mask) except -1:
        cdef Slot* slots = <Slot*>calloc(<size_t>mask + 1, sizeof(Slot))
        cdef uint32_t i
        if slots == NULL:
            raise MemoryError
        # Ids that differ in the smaller table's slots differ in the larger one's too.
        for i in range(self._mask + 1):
            if self._slots[i].place:
                slots[self._slots[i].id & mask] = self._slots[i]
        free(self._slots)
        self._slots = slots
        self._mask = mask
        return 0

    cdef void on_idle_check(self):
        if self.inflight == 0 and self._mask > LEAST_MASK:
            try:
                self._resize(LEAST_MASK)
            except MemoryError:
                # It stays as large as it is.
                return

    cdef inline Slot* _take(self, Call call, uint32_t index) except NULL:
        """A slot with a new id for a request of ``call``."""
        cdef Slot* slot
        if <uint32_t>self.inflight * 2 > self._mask:
            self._resize(self._mask * 2 + 1)
        slot = &self._slots[self._next_id & self._mask]
        while slot.place or self._next_id == 0:
            self._next_id += 1
            slot = &self._slots[self._next_id & self._mask]
        slot.place = index + 1
        slot.id = self._next_id
        slot.call = <void*>call
        Py_INCREF(call)
        self._next_id += 1
        self.credits -= 1
        self.inflight += 1
        return slot

    cdef int submit(
        self, Call call, uint16_t target, const char* body, size_t n, uint32_t timeout_ms
    ) except -1:
        """Send a request against a credit (the caller has checked ``room`` and the body's length).
        """
        cdef char* at
        cdef Slot* slot
        if n > APART_BYTES and self.goes_apart(n):
            return self.submit_body(
                call, 0, target, PyBytes_FromStringAndSize(body, n), timeout_ms, None
            )
        at = self.out.reserve(HEADER_BYTES + n)
        slot = self._take(call, 0)
        call.session = self
        call.id = slot.id
        put_header(at, <uint32_t>n, F_REQUEST, 0, target, slot.id, timeout_ms)
        memcpy(at + HEADER_BYTES, body, n)
        self.out.length += HEADER_BYTES + n
        self.mark()
        return 0

    cdef int submit_body(
        self, Call call, uint32_t index, uint16_t target, bytes body, uint32_t timeout_ms,
        bytes order_key
    ) except -1:
        """``submit`` for a body that is an object of its own (a large one is not copied), as the
        call's request ``index``; ``order_key`` may be None.
        """
        cdef size_t n = PyBytes_GET_SIZE(body)
        cdef Slot* slot = self._take(call, index)
        cdef char* at
        call.session = self
        call.id = slot.id
        if (n > APART_BYTES or order_key is not None) and self._must_wait(n, order_key):
            return self._in_line(
                0, target, slot.id, body, timeout_ms, order_key, call.metadata
            )
        if call.metadata is not None:
            self.control(F_METADATA, 0, slot.id, 0, call.metadata)
        if order_key is not None:
            self._order(slot.id, order_key)
        if self.out.length + n >= SPILL_BYTES:
            return self.put(
                F_REQUEST, 0, target, slot.id, timeout_ms, PyBytes_AS_STRING(body), n, body
            )
        at = self.out.reserve(HEADER_BYTES + n)
        put_header(at, <uint32_t>n, F_REQUEST, 0, target, slot.id, timeout_ms)
        memcpy(at + HEADER_BYTES, PyBytes_AS_STRING(body), n)
        self.out.length += HEADER_BYTES + n
        self.mark()
        return 0

    cdef int submit_many(
        self, Call call, list bodies, Py_ssize_t first, Py_ssize_t end, uint16_t target,
        uint32_t timeout_ms, uint32_t* ids
    ) except -1:
        """Send ``bodies[first:end]``, each ``bytes`` that the peer takes, as the call's requests of
        these indices, whose ids go to ``ids[first:end]``. The caller has checked that there are
        credits for all of them.
        """
        cdef Slot* slot
        cdef Py_ssize_t i
        cdef size_t n
        cdef char* at
        cdef object body
        call.session = self
        for i in range(first, end):
            body = <object>PyList_GET_ITEM(bodies, i)
            n = PyBytes_GET_SIZE(body)
            if self.out.length + n >= SPILL_BYTES:
                self.submit_body(call, <uint32_t>i, target, <bytes>body, timeout_ms, None)
                ids[i] = call.id
                continue
            at = self.out.reserve(HEADER_BYTES + n)
            slot = self._take(call, <uint32_t>i)
            ids[i] = slot.id
            put_header(at, <uint32_t>n, F_REQUEST, 0, target, slot.id, timeout_ms)
            memcpy(at + HEADER_BYTES, PyBytes_AS_STRING(body), n)
            self.out.length += HEADER_BYTES + n
        self.mark()
        return 0

    cdef int notify(
        self, uint16_t target, bytes body, uint32_t timeout_ms, bytes order_key, bytes metadata
    ) except -1:
        """Send a request that nobody will answer, against a credit."""
        cdef uint32_t id = self._next_id
        while id == 0 or self._slot(id) != NULL:
            id += 1
        self._next_id = id + 1
        self.credits -= 1
        if self._must_wait(PyBytes_GET_SIZE(body), order_key):
            return self._in_line(
                FLAG_NO_REPLY, target, id, body, timeout_ms, order_key, metadata
            )
        if metadata is not None:
            self.control(F_METADATA, 0, id, 0, metadata)
        if order_key is not None:
            self._order(id, order_key)
        self.put(
            F_REQUEST, FLAG_NO_REPLY, target, id, timeout_ms,
            PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), body,
        )
        return 0

    cdef void at_once(self):
        """The next request is alone: it is not to wait for the end of the tick."""
        self._eager = not self._marked and self.out.length == 0

    cdef void sent_at_once(self):
        """``at_once`` is over: the request leaves."""
        if self._eager:
            self._eager = False
            self.flush()

    cdef bint _must_wait(self, size_t n, bytes order_key):
        """Whether a request leaves in pieces, or behind one that does and has the same key."""
        return self.in_pieces and ((n > APART_BYTES and self.goes_apart(n)) or (
            order_key is not None and self.bodies is not None and self.bodies.orders(order_key)
        ))

    cdef int _in_line(
        self, uint8_t flags, uint16_t target, uint32_t id, bytes body, uint32_t timeout_ms,
        bytes order_key, bytes metadata
    ) except -1:
        """Have a request leave in pieces when those before it have. Its credit is used at once."""
        cdef Body item = Body.__new__(Body)
        item.kind = F_REQUEST
        item.flags = flags
        item.target = target
        item.id = id
        item.body = body
        item.order_key = order_key
        item.metadata = metadata
        if timeout_ms != 0xFFFFFFFF:
            item.due_us = self.tick.now_us() + <int64_t>timeout_ms * 1000
        write_frame(self.out, F_PIECE, 0, 0, id, <uint32_t>PyBytes_GET_SIZE(body), NULL, 0)
        return self.add_body(item)

    cdef int _order(self, uint32_t id, bytes order_key) except -1:
        """Say that the request with this id, which follows, is one of a sequence."""
        return self.control(F_ORDER, 0, id, 0, order_key)

    cdef int room(self):
        """How many requests may be submitted now: the credits, or none while too many bytes gather,
        or too many replies are owed (a server that answers nothing may grant credits without end).
        """
        cdef size_t gathered = self.gathered()
        if self.bodies is not None:
            # The body that is being sent is not in the way.
            gathered = self.out.length + self._parts_bytes + self.bodies.behind()
        if gathered > self.out_bytes_max // 2 or (gathered and self.budget.pressure() > 0.0):
            self._choked = True
            return 0
        return min(self.credits, INFLIGHT_MAX - self.inflight)

    cdef bint has_room(self, size_t n) noexcept:
        """Whether a body of ``n`` bytes may be copied to what waits to be sent."""
        return n <= SMALL_BYTES or self.budget.admits(n)

    cdef void flush(self):
        Session.flush(self)
        if self.out.length == 0 and self._parts_bytes == 0:
            if not self._broken:
                # Those that wait to leave in pieces are known apart.
                self._flushed_id = self._next_id - 1
            if self._choked and not self.closed and (
                self.bodies is None or self.bodies.behind() <= self.out_bytes_max // 4
            ):
                self._choked = False
                self.owner.on_credit(self)

    cdef bint abandon_id(self, Call call, uint32_t id):
        """Nobody wants the reply to this request of ``call`` any more: the server is told, and the
        credit comes back with its answer. Whether the request was under way here.
        """
        cdef Slot* slot = self._slot(id)
        if slot == NULL or slot.call != <void*>call:
            return False
        slot.call = NULL
        if self.bodies is not None:
            self.bodies.withdraw(id)
        if self.arriving is not None and self.arriving.open and self.arriving.id == id:
            self.arriving._throw()
        self.control(F_CANCEL, 0, id, 0, b"")
        Py_DECREF(call)
        return True

    cdef void abandon(self, Call call):
        """``abandon_id`` for a call of one request."""
        if call.session is self:
            call.session = None
            self.abandon_id(call, call.id)

    cdef void sweep(self):
        """Look for calls that nobody waits for among those that were there at the last sweep."""
        cdef uint32_t i, id
        cdef Slot* slot
        cdef Call call
        for i in range(self._mask + 1):
            slot = &self._slots[i]
            if slot.call != NULL and <int32_t>(slot.id - self._swept_id) <= 0:
                call = <Call>slot.call
                id = slot.id
                # Which may make calls, and so move the slots.
                if call.unwanted():
                    self.abandon_id(call, id)
        self._swept_id = self._next_id - 1

    cdef list calls(self):
        """The calls under way, one for each of their requests."""
        cdef uint32_t i
        found = []
        for i in range(self._mask + 1):
            if self._slots[i].call != NULL:
                found.append(<Call>self._slots[i].call)
        return found

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

    cdef inline void _end(self, Slot* slot) noexcept:
        self.inflight -= 1
        slot.place = 0
        slot.call = NULL

    cdef bint on_frame(self) except -1:
        cdef MeshDecoder frame = self.decoder
        cdef uint8_t kind = frame.kind
        if not self.ready:
            if kind != F_HELLO:
                raise ProtocolError(f"mesh frame type {kind} before HELLO")
            self._read_hello()
            self.owner.on_ready(self)
        elif kind == F_REPLY or kind == F_ERROR:
            _end_request(self, frame, kind)
        else:
            _take_word(self, frame, kind)
        return True

    cdef int _take_piece(self) except -1:
        """A piece of a reply has come."""
        cdef MeshDecoder frame = self.decoder
        cdef Slot* slot = self._slot(frame.id)
        if frame.value > self.body_bytes_max:
            raise ProtocolError(
                f"a body of {frame.value} bytes in pieces, at most {self.body_bytes_max} allowed"
            )
        if self.arriving is None:
            self.arriving = Incoming(self.budget)
        # Nobody waits for it: it gets no memory.
        return self.arriving.take(
            frame.id, frame.value, frame.body, frame.length, slot != NULL and slot.call != NULL
        )

    cdef int _gain(self, uint32_t n) except -1:
        if n > CREDITS_MAX or self.credits + n > CREDITS_MAX:
            raise ProtocolError(f"{n} credits granted to a holder of {self.credits}")
        # After GOODBYE there is nothing to send against them.
        if not self.goodbye_sent:
            self.credits += n
        return 0

    cdef void _give_back(self):
        """Answer the server's reclaims with one RETURN of what is not in use."""
        cdef int n = min(self.credits, <int>self._reclaimed)
        self._reclaims = 0
        self._reclaimed = 0
        self.credits -= n
        self.control(F_RETURN, 0, 0, n, b"")

    cdef int on_midway(self) except -1:
        if self.decoder.kind == F_REPLY and self._slot(self.decoder.id) == NULL:
            # Nobody waits for it: it gets no memory.
            self.decoder.skip_rest()
            self.frames_dropped += 1
        return 0

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
            if slot.call != NULL:
                call = <Call>slot.call
                call.index = slot.place - 1
                # Unsent calls never reached the transport: they may go elsewhere.
                unsent = <int32_t>(slot.id - self._flushed_id) > 0 \
                    or (self.bodies is not None and self.bodies.has(slot.id))
                self._end(slot)
                Py_DECREF(call)
                call.session = None
                call.answered = False
                call.on_error(code, unsent, why)
            elif slot.place:
                self._end(slot)
        self.owner.on_lost(self)

    def statistics(self):
        """A plain dict of this session's counters."""
        return {
            "credits": self.credits, "inflight": self.inflight, "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out, "writes": self.writes,
            "frames_dropped": self.frames_dropped,
        }


cdef int _end_request(ClientSession session, MeshDecoder frame, uint8_t kind) except -1:
    """A reply or an error, or the rest of one: its request has ended."""
    cdef Slot* slot
    cdef Call call
    cdef int code
    cdef const char* body = frame.body
    cdef size_t length = frame.length
    cdef bytes owner = frame.owner
    cdef bint refused = frame.refused
    if session.arriving is not None and session.arriving.open and session.arriving.id == frame.id:
        if kind == F_ERROR:
            session.arriving.drop()
        else:
            length = session.arriving.length
            session.arriving.take(
                frame.id, length, frame.body, frame.length, not frame.refused
            )
            refused = session.arriving.thrown
            owner = session.arriving.whole()
            body = PyBytes_AS_STRING(owner) if owner is not None else NULL
    slot = session._slot(frame.id)
    if slot == NULL:
        # Late or duplicate, and so are the credits it claims to bring.
        session.frames_dropped += 1
        return 0
    session._gain(frame.value)
    if slot.call == NULL:
        session._end(slot)
        return 0
    call = <Call>slot.call
    call.index = slot.place - 1
    session._end(slot)
    Py_DECREF(call)
    call.session = None
    if refused:
        call.on_error(
            Code.OVERLOAD, False, f"no memory is left for a reply of {length} bytes",
        )
    elif kind == F_REPLY:
        call.on_reply(body, length, owner)
    else:
        code = frame.target
        call.answered = code & ~0xFF == ANSWERED_BIT
        call.on_error(
            code - ANSWERED_BIT if call.answered else code,
            frame.flags & FLAG_RETRY_SAFE,
            frame.body[:frame.length].decode("utf-8", "replace"),
        )
    return 0


cdef int _take_word(ClientSession session, MeshDecoder frame, uint8_t kind) except -1:
    """Any other frame: a few words, each of a kind of its own."""
    if kind == F_PIECE:
        session._take_piece()
    elif kind == F_CREDIT:
        session._gain(frame.value)
        if session._told_waiting:
            # The server has counted the grant against what it was told: say it anew.
            session._told_waiting = -1
    elif kind == F_RECLAIM:
        # Answered after the batch, when those that waited have used what came with it.
        session._reclaims += 1
        session._reclaimed = min(session._reclaimed + <uint64_t>frame.value, CREDITS_MAX)
    elif kind == F_PING and session.paused and session.out.length > UNREAD_BYTES_MAX:
        # A server that reads nothing misses nothing.
        pass
    elif kind == F_PING:
        session.control(F_PONG, 0, 0, frame.value, b"")
    elif kind == F_PONG:
        pass
    elif kind == F_GOODBYE:
        if session._read_goodbye():
            session.owner.on_goodbye(session)
    elif kind == F_HELLO:
        raise ProtocolError("a second HELLO")
    else:
        raise ProtocolError(f"mesh frame type {kind} from a server")
    return 0
