"""The answering end of a connection: requests come against credits, and are answered in any order.

A ``Handler`` is given the requests of any number of sessions: the provider's agent has one, and so
has ``rpc.server``. All sessions of a server share a ``CreditPool``.

Invariants: a request without a credit ends the session; while the caller does not read its replies,
or the handler holds the session, none of its requests is taken.

Long because the credits, the bodies announced and the frames that change both are one state.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, realloc

from dragoman.flow.credits cimport CreditPool, Holder
from dragoman.rpc.pieces cimport APART_BYTES, Body, Incoming
from dragoman.rpc.session cimport Session
from dragoman.timers cimport Timed
from dragoman.wire.mesh cimport (
    F_CANCEL, F_CREDIT, F_DEMAND, F_ERROR, F_GOODBYE, F_HELLO, F_METADATA, F_NAME, F_ORDER, F_PIECE,
    F_PING, F_PONG, F_RECLAIM, F_REPLY, F_REQUEST, F_RETURN, FEATURE_METADATA, FEATURE_NO_REPLY,
    FEATURE_ORDER, FLAG_NO_REPLY, FLAG_RETRY_SAFE, MeshDecoder, write_frame,
)

import logging

from dragoman.errors import ANSWERED, Code, ProtocolError
from dragoman.rpc.metadata import metadata_of

cdef int ANSWERED_BIT = ANSWERED
log = logging.getLogger("dragoman.rpc")

cdef int METHODS_MAX = 1024
# Shorter replies are always taken.
cdef size_t SMALL_BYTES = 4096
# So much of short replies may wait beside a body that is being sent.
cdef size_t BESIDE_BYTES = 262144
cdef int ERROR_TEXT_BYTES_MAX = 4096
cdef uint32_t CREDITS_MAX = 1 << 24
cdef bytes NO_IDENTITY = b"\0" * 16
# Values of PINGs that ask whether a RECLAIM has been read; those of the heartbeat have 0.
cdef uint32_t FIRST_PROBE = 1
cdef uint32_t SECOND_PROBE = 2
# How often a pool is reviewed while somebody waits.
cdef int64_t REVIEW_US = 20_000
# A caller that has no request in progress, owes an answer for so many reviews and was silent in all
# of them is let go: nothing is lost with it, and others wait for what it holds.
cdef int MUTE_REVIEWS = 50
# So often in a row a caller may demand credits of which it uses none.
cdef int WASTED_MOST = 16


cdef class Handler:
    """A taker of requests. ``features`` are those of HELLO that it can serve."""

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
        cdef ServerSession session = self.session
        # What has come back already is to be read before it.
        session.grant_owed()
        self.asked_us = session.tick.wheel.clock_us()
        session.control(F_RECLAIM, 0, 0, n, b"")
        session._pace()

    cdef void overdue(self, int reviews):
        cdef ServerSession session = self.session
        if session._held or session.closed:
            return
        if reviews >= MUTE_REVIEWS and self.in_use == 0 and session.read_us < self.asked_us:
            session.lose("no answer to a RECLAIM while others wait, nor any sign of life")
        else:
            session._probe_reclaim()


cdef class Pacer(Timed):
    """Has a pool reviewed while somebody waits for its credits."""

    cdef void go_on(self):
        if self._wheel is None:
            self.wheel.schedule(self, self.wheel.clock_us() + REVIEW_US)

    cdef void on_due(self):
        self.pool.review()
        if self.pool._short or self.pool._asked_holders:
            self.go_on()


cdef class ServerSession(Session):
    """The answering end. ``sessions`` is a set that this session keeps itself in while it lives."""

    def __cinit__(
        self, loop, Handler handler, CreditPool pool, sessions, *, uint32_t body_bytes_max=16777216,
        double heartbeat_s=5.0, int sessions_max=0, budget=None,
    ):
        self._configure(loop, body_bytes_max, heartbeat_s, budget)
        self.handler = handler
        self.pool = pool
        self._sessions = sessions
        self._sessions_max = sessions_max
        self.holder = SessionHolder()
        self.holder.session = self

    def __dealloc__(self):
        free(self._methods)

    def connection_made(self, transport):
        """A caller has connected."""
        Session.connection_made(self, transport)
        self._sessions.add(self)
        if self.handler.closing:
            # Accepted a moment before the listener was closed.
            self.close()

    cdef void reply(self, uint32_t id, const char* body, size_t n, int credits, bytes owner=None):
        """Answer a request; ``credits`` go back with it. ``owner``: see ``put``."""
        cdef Body item
        if self.closed:
            return
        if n > self.peer_body_bytes_max:
            self.error(
                id, Code.TOO_LARGE, False,
                f"the reply has {n} bytes, the caller takes {self.peer_body_bytes_max}", credits,
            )
            return
        if n > SMALL_BYTES and not self.budget.admits(n):
            self.error(
                id, Code.OVERLOAD, False, f"no memory is left for a reply of {n} bytes", credits
            )
            return
        if self.paused and self.gathered() + n > self.out_bytes_max:
            # Work that was in progress when the caller stopped reading ends like this, and only it.
            n = self.gathered()
            self.error(
                id, Code.OVERLOAD, False,
                f"{n} bytes of replies wait already for a caller that is slow to read", credits,
            )
            return
        if n <= APART_BYTES or not self.goes_apart(n):
            self.put(F_REPLY, 0, 0, id, credits, body, n, owner)
            return
        if self.bodies is not None and self.bodies.has(id):
            self.fail(f"request id {id} is in use")
            return
        # The credit does not wait for the last piece: what follows relies on its having come.
        self.owed(credits)
        item = Body.__new__(Body)
        item.kind = F_REPLY
        item.id = id
        if owner is None or <size_t>PyBytes_GET_SIZE(owner) != n:
            owner = PyBytes_FromStringAndSize(body, n)
        item.body = owner
        self.add_body(item)
        self._review_unread()

    cdef void error(
        self, uint32_t id, int code, bint retry_safe, str message, int credits,
        bint answered=False
    ):
        """Answer a request with an error, which the callee itself has said if ``answered``."""
        cdef bytes text
        if self.closed:
            return
        text = message.encode("utf-8", "replace")
        if len(text) > ERROR_TEXT_BYTES_MAX or len(text) > <Py_ssize_t>self.peer_body_bytes_max:
            text = text[:min(ERROR_TEXT_BYTES_MAX, self.peer_body_bytes_max)]
        self.put(
            F_ERROR, FLAG_RETRY_SAFE if retry_safe else 0,
            code + ANSWERED_BIT if answered and code < ANSWERED_BIT else code, id, credits,
            PyBytes_AS_STRING(text), len(text), None,
        )

    cdef void credit(self, int n):
        """Grant ``n`` more credits outside a reply."""
        self.control(F_CREDIT, 0, 0, n, b"")

    def goodbye(self):
        """Tell the caller that this server drains: it sends nothing new and closes when all is
        answered.
        """
        if not self.goodbye_sent and not self.closed:
            if self.ready:
                self.bid_goodbye("", 0)
            else:
                self.close()

    def pause_writing(self):
        """The caller does not read its replies: stop taking its requests."""
        Session.pause_writing(self)
        self._review_unread()

    def resume_writing(self):
        """The caller reads again."""
        Session.resume_writing(self)
        self._review_unread()

    cdef bint _crowded(self):
        """Whether more waits than may beside the body which is being sent, if there is one."""
        if self.bodies is None or self.bodies.count == 0:
            return self.paused
        return self.out.length > BESIDE_BYTES or (
            self.bodies.count > 1 and (
                self.bodies.behind() > self.out_bytes_max // 4 or self.budget.pressure() > 0.0
            )
        )

    cdef void _review_unread(self):
        """Take the caller's requests, or take none while too much waits for it to read."""
        if self._crowded():
            if not self._held & HOLD_UNREAD:
                self.hold(HOLD_UNREAD)
        elif self._held & HOLD_UNREAD:
            self.release(HOLD_UNREAD)

    cdef bint on_frame(self) except -1:
        cdef MeshDecoder frame = self.decoder
        if not self.ready:
            _greet(self, frame)
        elif frame.kind == F_REQUEST:
            _take_request(self, frame)
            self._beside_nothing()
        else:
            _take_word(self, frame, frame.kind)
        return True

    cdef inline void _beside_nothing(self):
        """Forget what was said beside a request: it was for that one."""
        self.order_id = 0
        if self.metadata_id:
            self.metadata_id = 0
            self.metadata = None

    cdef int _take_piece(self) except -1:
        """A piece of a request has come; the first uses its credit, and may be empty."""
        cdef MeshDecoder frame = self.decoder
        if self._announced is None:
            self._announced = {}
            self.arriving = Incoming(self.budget)
        if frame.id not in self._announced:
            if frame.value > self.body_bytes_max:
                raise ProtocolError(
                    f"a body of {frame.value} bytes in pieces, at most "
                    f"{self.body_bytes_max} allowed"
                )
            if not self.pool.began(self.holder):
                raise ProtocolError("request without a credit")
            self._announced[frame.id] = frame.value
        elif self._announced[frame.id] != frame.value:
            raise ProtocolError(
                f"a body of {frame.value} bytes in pieces, announced with "
                f"{self._announced[frame.id]}"
            )
        if frame.length:
            self.arriving.take(frame.id, frame.value, frame.body, frame.length, True)
        return 0

    cdef bint _forget_body(self, uint32_t id) except -1:
        """The caller wants no reply to this request: what has come of its body is dropped, or what
        has not been sent of the reply's. Whether there was anything of either.
        """
        if self._announced is not None and self._announced.pop(id, None) is not None:
            if self.arriving.open and self.arriving.id == id:
                self.arriving.drop()
            self.error(
                id, Code.CANCELLED, False, "cancelled by the caller", self.pool.done(self.holder)
            )
            return True
        if self.bodies is not None and self.bodies.withdraw(id):
            # Its credit has gone back.
            self.error(id, Code.CANCELLED, False, "cancelled by the caller", 0)
            self._review_unread()
            return True
        return False

    cdef void on_idle_check(self):
        """Find out whether the caller disregards a RECLAIM, and keeps from others what it does not
        use.

        No clock can tell that from a connection that is jammed, but two PINGs can: the first PONG
        shows that the RECLAIM has been read, and what came with it dealt with before the second
        PING could be read. So the RETURN comes before the second PONG.
        """
        if self.ready and self.holder.pool is not None and self.holder._asked:
            self._probe_reclaim()

    cdef int _take_back(self, uint32_t n) except -1:
        """The caller gives credits back: all that it did not use, or as many as it was asked for.
        """
        cdef int kept = self.pool.kept(self.holder, n)
        if kept:
            self.pool.doubt(self.holder)
            raise ProtocolError(
                f"{kept} credits kept that were asked back, not in use, while others wait"
            )
        self.pool.returned(self.holder, n)
        self._returned = True
        if self.holder.wasted >= WASTED_MOST and self.holder.in_use == 0:
            self.pool.doubt(self.holder)
            raise ProtocolError(
                f"credits were demanded {self.holder.wasted} times in a row and given back unused"
            )
        return 0

    cdef void _pace(self):
        """Somebody waits for credits: their pool is looked at from time to time."""
        cdef Pacer pacer = <Pacer>self.pool.pacer
        if pacer is None:
            pacer = self.pool.pacer = Pacer()
            pacer.pool = self.pool
            pacer.wheel = self.tick.wheel
        pacer.go_on()

    cdef void _probe_reclaim(self):
        if self._probe == 0:
            self._returned = False
            self._probe = FIRST_PROBE
            self.control(F_PING, 0, 0, self._probe, b"")

    cdef int _probed(self) except -1:
        """The PONG of the probe under way has come."""
        cdef bint first = self._probe == FIRST_PROBE
        self._probe = 0
        if self._returned or self.holder.pool is None:
            return 0
        if not first:
            raise ProtocolError("a RECLAIM was not answered")
        self._probe = SECOND_PROBE
        return self.control(F_PING, 0, 0, self._probe, b"")

    cdef int _name(self, int number) except -1:
        """The next method id stands for the handler's method of this number."""
        cdef uint32_t room
        cdef int* methods
        if self._named == self._methods_room:
            room = self._methods_room * 2 if self._methods_room else 4
            methods = <int*>realloc(self._methods, room * sizeof(int))
            if methods == NULL:
                raise MemoryError
            self._methods = methods
            self._methods_room = room
        self._methods[self._named] = number
        self._named += 1
        return 0

    cdef int on_midway(self) except -1:
        # A caller without a credit gets no memory either.
        if self.decoder.kind == F_REQUEST and self.holder.in_use >= self.holder.held \
                and (self._announced is None or self.decoder.id not in self._announced):
            raise ProtocolError("request without a credit")
        return 0

    cdef void _no_room(self, uint32_t id, uint32_t n):
        """Refuse a request whose body of ``n`` bytes is thrown away."""
        cdef int credits = self.pool.done(self.holder)
        if self.no_reply:
            self.owed(credits)
        else:
            self.error(
                id, Code.OVERLOAD, True, f"no memory is left for a body of {n} bytes", credits
            )

    cdef void _unknown_method(self, uint32_t id):
        cdef int credits = self.pool.done(self.holder)
        if self.no_reply:
            self.owed(credits)
        else:
            self.error(id, Code.NOT_FOUND, True, "no such method", credits)

    cdef void owed(self, int credits):
        """Credits that come back without a reply; they are granted together, after the read or the
        tick.
        """
        self._owed += credits
        if self._owed and not self.closed:
            self.mark()

    cdef int grant_owed(self) except -1:
        """Put what is owed into the next write."""
        if self._owed and not self.closed:
            write_frame(self.out, F_CREDIT, 0, 0, 0, self._owed, NULL, 0)
            self._owed = 0
        return 0

    cdef void flush(self):
        self.grant_owed()
        Session.flush(self)
        if self.bodies is not None or self._held:
            self._review_unread()

    cdef void on_batch(self):
        self.handler.on_batch(self)

    cdef void on_closed(self):
        if type(self.failure) is ProtocolError:
            log.warning("session ended: %s", self.failure)
        self._sessions.discard(self)
        if self._announced:
            # Their bodies will not come any more.
            for _ in range(len(self._announced)):
                self.owed(self.pool.done(self.holder))
            self._announced.clear()
        if self.ready or self.holder.pool is not None:
            self.pool.leave(self.holder)
        self.handler.on_lost(self)


cdef int _greet(ServerSession session, MeshDecoder frame) except -1:
    """The first frame: a caller's HELLO, which is answered and makes it a holder of credits."""
    if frame.kind != F_HELLO:
        raise ProtocolError(f"mesh frame type {frame.kind} before HELLO")
    session._read_hello()
    session._hello(session.handler.features, NO_IDENTITY, b"")
    if session._sessions_max and len(session._sessions) > session._sessions_max:
        session.bid_goodbye(f"this server takes no more than {session._sessions_max} clients", 0)
        session.close()
        return 0
    session.pool.join(
        session.holder, session.pool.account(session.peer.rpartition(":")[0], session.peer_identity)
    )
    return 0


cdef int _take_request(ServerSession session, MeshDecoder frame) except -1:
    """A request, or the rest of one: it goes to the handler."""
    cdef int number
    cdef const char* body
    cdef size_t length
    cdef bytes owner
    cdef bint refused
    if frame.target == 0 or frame.target > session._named:
        raise ProtocolError(f"request for method id {frame.target}, which was never named")
    session.no_reply = frame.flags & FLAG_NO_REPLY
    if session.no_reply and not session.handler.features & FEATURE_NO_REPLY:
        raise ProtocolError("a request without reply, which this server does not offer")
    if session.order_id and session.order_id != frame.id:
        raise ProtocolError(f"ORDER for id {session.order_id} before request {frame.id}")
    if session.metadata_id and session.metadata_id != frame.id:
        raise ProtocolError(f"METADATA for id {session.metadata_id} before request {frame.id}")
    body = frame.body
    length = frame.length
    owner = frame.owner
    refused = frame.refused
    if session._announced is not None and frame.id in session._announced:
        length = session._announced[frame.id]
        session.arriving.take(frame.id, length, frame.body, frame.length, not frame.refused)
        refused = session.arriving.thrown
        owner = session.arriving.whole()
        del session._announced[frame.id]
        body = PyBytes_AS_STRING(owner) if owner is not None else NULL
    elif not session.pool.began(session.holder):
        raise ProtocolError("request without a credit")
    session.requests += 1
    if refused:
        session._no_room(frame.id, length)
        return 0
    number = session._methods[frame.target - 1]
    if number < 0:
        session._unknown_method(frame.id)
    else:
        session.handler.on_request(
            session, frame.id, number, frame.value, body, length, owner,
        )
    return 0


cdef int _take_word(ServerSession session, MeshDecoder frame, uint8_t kind) except -1:
    """Any other frame: a few words, each of a kind of its own."""
    if session.order_id:
        raise ProtocolError(f"ORDER before mesh frame type {kind}")
    elif session.metadata_id and (kind != F_ORDER or frame.id != session.metadata_id):
        raise ProtocolError(f"METADATA before mesh frame type {kind}")
    elif kind == F_PIECE:
        session._take_piece()
    elif kind == F_CANCEL:
        if not session._forget_body(frame.id):
            session.handler.on_cancel(session, frame.id)
    elif kind == F_DEMAND:
        session.pool.demand(session.holder, min(frame.value, CREDITS_MAX))
        if session.pool._short:
            session._pace()
    elif kind == F_RETURN:
        if session.holder.pool is None:
            # It said GOODBYE, which gave everything back; this answers a RECLAIM that crossed.
            return 0
        if frame.value > <uint32_t>(session.holder.held - session.holder.in_use):
            raise ProtocolError(f"{frame.value} credits given back that were not held")
        session._take_back(frame.value)
    elif kind == F_ORDER:
        if not session.handler.features & FEATURE_ORDER:
            raise ProtocolError("ORDER, which this server does not offer")
        session.order_id = frame.id
        session.order_key = frame.body[:frame.length]
    elif kind == F_METADATA:
        if not session.handler.features & FEATURE_METADATA:
            raise ProtocolError("METADATA, which this server does not offer")
        session.metadata = metadata_of(frame.body[:frame.length])
        session.metadata_id = frame.id
    elif kind == F_NAME:
        if frame.target != session._named + 1 or frame.target > METHODS_MAX:
            raise ProtocolError(
                f"method id {frame.target} named, {session._named + 1} was next"
            )
        session._name(session.handler.method(frame.body[:frame.length]))
    elif kind == F_PING:
        session.control(F_PONG, 0, 0, frame.value, b"")
    elif kind == F_PONG:
        if session._probe and frame.value == session._probe:
            session._probed()
    elif kind == F_GOODBYE:
        if session._read_goodbye():
            # It asks for nothing more: what it held unused is free.
            session.pool.leave(session.holder)
    elif kind == F_HELLO:
        raise ProtocolError("a second HELLO")
    else:
        raise ProtocolError(f"mesh frame type {kind} from a client")
    return 0
