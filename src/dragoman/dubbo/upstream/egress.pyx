"""Dubbo out: the provider agent's side of each request.

Requests come as mesh frames whose body is the caller's form, or a JSON call; they become Dubbo
requests straight in the buffer of the connection to the provider, and the provider's replies
become mesh replies. ``agent.provider`` puts it behind a listening socket.

What takes long to be made or read is done aside, by a ``Transcoder``, while the call keeps its
credit; its deadline and its caller's leaving end it there as well.

Invariants: never more requests at the provider than the pool's limit, for a request keeps its
credit until the provider has answered it, even when its caller has long been told that the
deadline passed; every request is answered once. What a provider has replied, whatever it says, is
told as its own word (``errors.ANSWERED``): it concerns that call alone, and shows that the provider
lives. What speaks against it is ``upstream-lost`` and ``upstream-protocol`` that are not, and its
own ``overload`` and ``unavailable``.

Long because a call and its ``Egress`` end each other: apart, each would need all of the other.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dragoman.dubbo.upstream.costs cimport SMALL_BYTES, costly_reply, costly_request
from dragoman.dubbo.upstream.connection cimport DubboCall, DubboConnection
from dragoman.dubbo.upstream.link cimport DubboLink
from dragoman.dubbo.upstream.decode_reply cimport Replies
from dragoman.dubbo.upstream.encode_request cimport Asked, Requests
from dragoman.dubbo.upstream.learned_limit cimport LearnedLimit
from dragoman.dubbo.upstream.probe cimport Probe
from dragoman.dubbo.upstream.status cimport code_of_status, is_retry_safe, without_call
from dragoman.flow.credits cimport CreditPool
from dragoman.observe.histogram cimport Histogram
from dragoman.rpc.server_session cimport Handler, ServerSession
from dragoman.rpc.tick cimport tick_of
from dragoman.wire.dubbo.frame cimport (
    DUBBO_HEADER_BYTES, DUBBO_OK, DUBBO_PAYLOAD_BYTES_MAX, DUBBO_POOL_EXHAUSTED, error_text,
)

import logging

from dragoman.dubbo.no_method import says_no_such_method
from dragoman.dubbo.upstream.encode_request import METHODS
from dragoman.errors import Code, NotFoundError, UsageError
from dragoman.observe.faults import log_fault

cdef enum:
    # How often a call is put to a provider that rejects it although it is within the limit, and how
    # long its frame may be to be kept for that.
    SENT_AGAIN_MAX = 5
    FRAME_KEPT_BYTES_MAX = 65536
    FRAME_BYTES_MAX = DUBBO_HEADER_BYTES + DUBBO_PAYLOAD_BYTES_MAX

    # what is done aside for a call
    MAKING = 1
    READING = 2

# A request that the provider never answered keeps its place this long after its deadline: an old
# provider whose pool is exhausted answers nothing at all, and must not lose its places for ever.
cdef int64_t FORGET_US = 60_000_000
# A call without reply keeps its place for as long as calls take here on average, at most this.
cdef int64_t ONE_WAY_US_MAX = 10_000_000
# How much sooner than its caller a call is given up here while nothing has been answered yet.
cdef int64_t UNHEARD_US_MAX = 50_000

TOO_MANY = "too many large calls are being transcoded"
LATE_MADE = "the large call was not made a request in time"
LATE_READ = "the provider's large reply was not read in time"

log = logging.getLogger("dragoman.agent")

cdef int C_INTERNAL = Code.INTERNAL
cdef int C_MALFORMED = Code.MALFORMED
cdef int C_NOT_FOUND = Code.NOT_FOUND
cdef int C_OVERLOAD = Code.OVERLOAD
cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_DEADLINE = Code.DEADLINE
cdef int C_CANCELLED = Code.CANCELLED
cdef int C_REMOTE = Code.REMOTE
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL
cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST
cdef int C_TOO_LARGE = Code.TOO_LARGE

FAULT = "a fault of the agent's own: "
SILENT = "the provider is silent: it answers neither calls nor heartbeats"


cdef class Egress(Handler):
    """Turns requests from mesh sessions into calls on ``link``; ``pool`` holds the provider's
    credits."""

    def __init__(
        self, loop, DubboLink link, CreditPool pool, *, str group="", str version="",
        str serialization="fastjson", str path="", str token="", bint learning=False,
        bint sharing=False, int limit_max=10000, uint32_t timeout_ms=600000, interfaces=None,
        transcoder=None,
    ):
        self.loop = loop
        self.tick = tick_of(loop)
        self.link = link
        self.pool = pool
        self.sharing = sharing
        self._limit = (
            LearnedLimit(pool, self.tick.wheel, sharing, limit_max) if learning or sharing else None
        )
        self._timeout_ms = timeout_ms
        self._said = {
            "group": group, "version": version, "path": path, "token": token,
            "interfaces": interfaces,
        }
        self.speak(serialization)
        self._replies = Replies()
        self._transcoder = transcoder
        self._aside = set()
        self.errors = {}
        self.latency = Histogram()

    cdef Requests requests_in(self, str serialization):
        """What makes requests in a serialization; raises UsageError."""
        return Requests(serialization, **self._said)

    def speak(self, str serialization not None):
        """From now on ask the provider in this serialization; raises UsageError."""
        self._requests = self.requests_in(serialization)
        said = self._said
        self._made_for = (
            serialization, said["group"], said["version"], said["path"], said["token"],
            None if said["interfaces"] is None else tuple(said["interfaces"]),
        )
        self.serialization = serialization
        self._heard = False
        if self._probe is not None:
            self._probe.requests = self._requests

    cdef int method(self, bytes name) except -1:
        return METHODS.get(name, -2)

    cdef bint on_request(
        self, ServerSession session, uint32_t id, uint16_t method, uint32_t timeout_ms,
        const char* body, Py_ssize_t n, bytes owner
    ) except -1:
        cdef EgressCall call = EgressCall.__new__(EgressCall)
        cdef DubboConnection connection = self.link.pick()
        cdef size_t start
        self.requests += 1
        self.in_progress += 1
        call.egress = self
        call.session = session
        call.id = id
        if self._refused(call, connection, n):
            return True
        call.started_us = call.sent_us = session.read_us
        if (
            n > SMALL_BYTES and self._transcoder is not None
            and costly_request(self._requests.serialization, method, body, n)
        ):
            return self._make_aside(call, method, timeout_ms, whole_bytes(body, n, owner))
        if connection.silent and not connection.may_probe(session.read_us):
            self._finish(call, C_UNAVAILABLE, True, SILENT)
            return True
        start = connection.out.length
        if timeout_ms > self._timeout_ms:
            timeout_ms = self._timeout_ms
        try:
            self._requests.write(
                method, connection.out, connection.begin(call), body, n, timeout_ms, &call.asked
            )
        except UsageError as error:
            connection.undo(call)
            connection.out.length = start
            self._finish(call, C_MALFORMED, False, str(error))
            return True
        except NotFoundError as error:
            connection.undo(call)
            connection.out.length = start
            self._finish(call, C_NOT_FOUND, True, str(error))
            return True
        except Exception as error:
            # Our own fault, or no memory: a request that got lost here would keep its credit for
            # ever.
            log_fault(log, error, "a request could not be made a call")
            connection.undo(call)
            connection.out.length = start
            self._finish(call, C_INTERNAL, False, FAULT + type(error).__name__)
            return True
        return self._is_sent(call, connection, start, timeout_ms)

    cdef bint _refused(self, EgressCall call, DubboConnection connection, Py_ssize_t n) except -1:
        """Whether a request of ``n`` bytes has been refused before it was looked at."""
        if connection is None:
            self._finish(call, C_UNAVAILABLE, True, self._why_unavailable())
            return True
        if self._probe is not None and self._probe.silent:
            self._finish(call, C_UNAVAILABLE, True, "the provider does not answer its probe")
            return True
        if self._pressure:
            self._due_refusals += self._pressure
            if self._due_refusals >= 1.0:
                self._due_refusals -= 1.0
                self._finish(call, C_OVERLOAD, True, "the provider's agent is short of memory")
                return True
        if connection.full(n):
            self._finish(
                call, C_OVERLOAD, True,
                "no memory is left here for the call" if not connection.paused else
                "too much waits for the provider, which does not read",
            )
            return True
        return False

    cdef bint _is_sent(
        self, EgressCall call, DubboConnection connection, size_t start, uint32_t timeout_ms
    ) except -1:
        """The call's frame is at the end of what the connection is to send."""
        if connection.out.length - start > FRAME_BYTES_MAX:
            # The provider would end the connection, and with it what others have there.
            connection.undo(call)
            connection.out.length = start
            self._finish(
                call, C_TOO_LARGE, False,
                f"the call is over Dubbo's {DUBBO_PAYLOAD_BYTES_MAX} bytes",
            )
            return True
        connection.sent()
        return self._under_way(call, connection, start, timeout_ms)

    cdef bint _under_way(
        self, EgressCall call, DubboConnection connection, size_t start, uint32_t timeout_ms
    ) except -1:
        """The call leaves with the tick; its frame is what ``out`` has from ``start`` on."""
        cdef int64_t allowed_us
        if (
            self.pool.in_use * 2 >= self.pool.limit and (self.sharing or self._limit is None)
            and 0 < connection.out.length - start <= FRAME_KEPT_BYTES_MAX
            and (connection.out.length - start <= 512 or not self.link.budget.pressure())
        ):
            call.frame = connection.out.data[start:connection.out.length]
        if call.asked.one_way:
            self._sent_one_way(call, connection)
            return True
        allowed_us = <int64_t>timeout_ms * 1000
        if not self._heard:
            # Who waits is to hear why from here, before his own time has passed.
            allowed_us -= min(allowed_us // 8, UNHEARD_US_MAX)
        self.tick.wheel.schedule(call, call.started_us + allowed_us)
        return True

    cdef bint _make_aside(
        self, EgressCall call, int method, uint32_t timeout_ms, bytes body
    ) except -1:
        """Have a request made that takes long to make."""
        if timeout_ms > self._timeout_ms:
            timeout_ms = self._timeout_ms
        call.timeout_ms = timeout_ms
        call.aside = MAKING
        call.job = self._transcoder.make(self._made_for, method, timeout_ms, body, call._made)
        if call.job is None:
            call.aside = 0
            self._finish(call, C_OVERLOAD, True, TOO_MANY)
            return True
        self._aside.add(call)
        if timeout_ms:
            self.tick.wheel.schedule(call, call.started_us + <int64_t>timeout_ms * 1000)
        return True

    def probe(self, str interface not None, int every_ms):
        """From now on ask the provider's pool itself, by ``$echo``, whether it still answers.

        A provider that has not answered within ``every_ms`` gets no requests until it does. There
        is no probe while the pool's limit is used up.
        """
        self.stop()
        self._probe = Probe(
            self.link, self.pool, self.tick.wheel, self._requests, interface, every_ms
        )
        self._probe.rest()

    def stop(self):
        """Probe no more."""
        if self._probe is not None:
            self._probe.stop()
            self._probe = None

    @property
    def silent(self):
        """Whether the provider did not answer the last probe."""
        return self._probe is not None and self._probe.silent

    @property
    def limit_max(self):
        """The most that a limit which is learned or shared may grow to; 0 if it is neither."""
        return 0 if self._limit is None else self._limit.limit_max

    @limit_max.setter
    def limit_max(self, int limit_max):
        """Let it grow to ``limit_max``."""
        if self._limit is not None:
            self._limit.limit_max = limit_max

    def shed(self, double proportion):
        """From now on refuse this proportion of requests, 0.0 to 1.0: the process is short of
        memory."""
        self._pressure = proportion

    def _why_late(self):
        """Why a call that has had its time has had no answer, as far as is known."""
        if self._heard:
            return "the provider did not answer in time"
        why = (
            f"the provider did not answer in time, as it has never answered in {self.serialization}"
        )
        if self._told != self.serialization:
            self._told = self.serialization
            log.warning("provider %s:%d: %s", self.link.host, self.link.port, why)
        if self.on_unheard is not None:
            self.on_unheard()
        return why

    def _why_unavailable(self):
        for connection in self.link.connections:
            return "the provider is shutting down"
        return f"the provider cannot be reached: {self.link.reason or 'not connected yet'}"

    cdef void _sent_one_way(self, EgressCall call, DubboConnection connection):
        """Answer a call that the provider will not answer. When it ends there nobody knows: its
        place is taken for as long as calls take here on average."""
        connection.forget(call)
        call.answered = True
        self.succeeded += 1
        call.session.reply(call.id, b"", 0, 0)
        self.tick.wheel.schedule(
            call, call.started_us + min(<int64_t>self._mean_us, ONE_WAY_US_MAX)
        )

    cdef void on_cancel(self, ServerSession session, uint32_t id):
        """The caller no longer waits. Dubbo cannot recall a request: it keeps its place until
        answered."""
        cdef DubboConnection connection
        cdef EgressCall call
        cdef uint64_t i
        for call in self._aside:
            if call.id == id and call.session is session:
                call._leave_aside()
                self._finish(call, C_CANCELLED, False, "cancelled by the caller")
                return
        for connection in self.link.connections:
            for i in range(connection._mask + 1):
                if connection._slots[i] == NULL:
                    continue
                if not isinstance(<object>connection._slots[i], EgressCall):
                    continue
                call = <EgressCall>connection._slots[i]
                if call.id == id and call.session is session and not call.answered:
                    self.tick.wheel.cancel(call)
                    call.answer(C_CANCELLED, "cancelled by the caller")
                    return

    cdef int _append(self, EgressCall call, DubboConnection connection, bytes frame) except -1:
        """Let ``call`` begin on a connection with a frame that was made before."""
        cdef uint64_t id = connection.begin(call)
        connection.out.append(PyBytes_AS_STRING(frame), len(frame))
        put_id(<uint8_t*>connection.out.data + connection.out.length - len(frame), id)
        return 0

    cdef void on_lost(self, ServerSession session):
        """Nobody waits for what is made or read aside for a caller that is gone."""
        cdef EgressCall call
        if not self._aside:
            return
        for call in [call for call in self._aside if (<EgressCall>call).session is session]:
            call._leave_aside()
            self._finish(call, C_CANCELLED, False, "")

    cdef void _failed(self, EgressCall call, int code, str problem):
        """The call's reply has been read, and is no answer."""
        cdef bint missing = code == C_REMOTE and says_no_such_method(problem)
        self._finish(call, C_NOT_FOUND if missing else code, missing, problem, True)

    cdef void _succeeded(self, EgressCall call, const char* answer, Py_ssize_t n, bytes owner):
        """The call's reply has been read, and this is the answer; ``owner``: see ``reply``."""
        cdef ServerSession session = call.session
        cdef int64_t took_us
        if self._limit is not None:
            self._limit.answered(self.in_progress)
        self.in_progress -= 1
        self.succeeded += 1
        took_us = self.link.read_us - call.started_us
        (<Histogram>self.latency).record_us(took_us)
        self._mean_us += 0.1 * (took_us - self._mean_us)
        session.reply(call.id, answer, n, self.pool.done(session.holder), owner)

    cdef void _finish(
        self, EgressCall call, int code, bint retry_safe, str message, bint answered=False
    ):
        """The request's place is free: answer it with an error unless it has been answered.

        ``answered``: the provider has said so itself.
        """
        cdef ServerSession session = call.session
        cdef int credits = self.pool.done(session.holder)
        self.in_progress -= 1
        if call.answered:
            self.late += not call.asked.one_way
            if credits:
                session.credit(credits)
            return
        self.count_error(code)
        session.error(call.id, code, retry_safe, message, credits, answered)

    def count_error(self, int code):
        """Count a request that ended with an error."""
        self.errors[code] = self.errors.get(code, 0) + 1


cdef class EgressCall(DubboCall):
    """One request at the provider."""

    cdef void on_dubbo_reply(self, int status, int serialization, const char* body, Py_ssize_t n):
        cdef Egress egress = self.egress
        cdef int code
        egress._heard = True
        if status == DUBBO_POOL_EXHAUSTED:
            egress.rejections += 1
            if egress._limit is not None and (self.frame is None or self.rejected):
                egress._limit.rejected(egress.in_progress, self.sent_us)
            if self._sent_again_later():
                return
        if status != DUBBO_OK:
            egress.tick.wheel.cancel(self)
            why = error_text(serialization, body, n)
            code = code_of_status(status, why)
            if code == C_UNAVAILABLE:
                why = without_call(why)
            egress._finish(self, code, is_retry_safe(code), why, True)
            return
        if (
            n > SMALL_BYTES and egress._transcoder is not None
            and costly_reply(&self.asked, serialization, body, n)
        ):
            self._read_aside(serialization, body, n)
            return
        egress.tick.wheel.cancel(self)
        try:
            code = egress._replies.read(&self.asked, serialization, body, n)
        except Exception as error:
            # Our own fault, or no memory: a call that got lost here would keep its credit for ever.
            log_fault(log, error, "a reply could not be read")
            egress._finish(self, C_INTERNAL, False, FAULT + type(error).__name__)
            return
        if code != 0:
            egress._failed(self, code, egress._replies.problem)
            return
        if self.answered:
            egress._finish(self, C_DEADLINE, False, "")
            return
        egress._succeeded(
            self, egress._replies.answer.data, egress._replies.answer.length, None
        )

    cdef int _read_aside(self, int serialization, const char* body, Py_ssize_t n) except -1:
        """Have a reply read that takes long to read."""
        cdef Egress egress = self.egress
        if self.answered:
            egress.tick.wheel.cancel(self)
            egress._finish(self, C_DEADLINE, False, "")
            return 0
        frame = None if egress.link.read_from is None else egress.link.read_from.take_body()
        self.aside = READING
        self.job = egress._transcoder.read(
            (<char*>&self.asked)[:sizeof(Asked)], serialization,
            body[:n] if frame is None else memoryview(frame), self._read,
        )
        if self.job is None:
            self.aside = 0
            egress.tick.wheel.cancel(self)
            egress._finish(self, C_OVERLOAD, False, TOO_MANY)
            return 0
        egress._aside.add(self)
        return 0

    def _read(self, int code, str problem, bytes asked, bytes answer not None):
        """A reply has been read aside."""
        cdef Egress egress = self.egress
        self._leave_aside()
        if code != 0:
            egress._failed(self, code, problem)
            return
        egress._succeeded(self, PyBytes_AS_STRING(answer), len(answer), answer)

    def _made(self, int code, str problem, bytes asked not None, bytes frame not None):
        """A request has been made aside."""
        cdef Egress egress = self.egress
        cdef DubboConnection connection
        cdef size_t start
        self._leave_aside()
        if code != 0:
            egress._finish(self, code, code == C_NOT_FOUND, problem)
            return
        connection = egress.link.pick()
        if connection is None:
            egress._finish(self, C_UNAVAILABLE, True, egress._why_unavailable())
            return
        self.sent_us = egress.tick.wheel.clock_us()
        if connection.silent and not connection.may_probe(self.sent_us):
            egress._finish(self, C_UNAVAILABLE, True, SILENT)
            return
        memcpy(&self.asked, PyBytes_AS_STRING(asked), sizeof(Asked))
        start = connection.out.length
        try:
            if FRAME_KEPT_BYTES_MAX < len(frame) <= FRAME_BYTES_MAX and not connection.paused:
                # Not copied again, and nobody else has seen it.
                put_id(<uint8_t*>PyBytes_AS_STRING(frame), connection.begin(self))
                connection.send_apart(frame)
                egress._under_way(self, connection, connection.out.length, self.timeout_ms)
                return
            egress._append(self, connection, frame)
            egress._is_sent(self, connection, start, self.timeout_ms)
        except MemoryError as error:
            connection.undo(self)
            connection.out.length = start
            egress._finish(self, C_INTERNAL, False, FAULT + type(error).__name__)

    cdef int _leave_aside(self) except -1:
        """What was done aside has ended, or nobody waits for it."""
        job = self.job
        self.job = None
        self.aside = 0
        self.egress._aside.discard(self)
        self.egress.tick.wheel.cancel(self)
        if job is not None:
            job.drop()
        return 0

    cdef bint _sent_again_later(self) except -1:
        """A reply leaves a moment before its thread is back in the provider's pool, which has no
        queue: a call that comes in that moment is rejected although it is within the limit. It
        never ran, and is put to the provider again. Where others call the provider too, only once:
        they may have its places for long."""
        if self.frame is None or self.answered:
            return False
        if self.rejected == (1 if self.egress.sharing else SENT_AGAIN_MAX):
            return False
        self.waits = True
        self.egress.loop.call_later(0.001 * (1 << self.rejected), self._send_again)
        self.rejected += 1
        return True

    def _send_again(self):
        cdef Egress egress = self.egress
        cdef DubboConnection connection
        if not self.waits:  # its deadline has passed
            return
        self.waits = False
        connection = egress.link.pick()
        if connection is None:
            egress.tick.wheel.cancel(self)
            egress._finish(self, C_UNAVAILABLE, True, egress._why_unavailable())
            return
        egress._append(self, connection, self.frame)
        self.sent_us = egress.tick.wheel.clock_us()
        egress.sent_again += 1
        connection.sent()

    cdef void on_dubbo_refused(self, Py_ssize_t n):
        self.egress.tick.wheel.cancel(self)
        self.egress._finish(
            self, C_OVERLOAD, False, f"no memory is left here for a reply of {n} bytes"
        )

    cdef void on_dubbo_lost(self, bint sent, str why):
        self.egress.tick.wheel.cancel(self)
        self.egress._finish(
            self, C_UPSTREAM_PROTOCOL if self.violated else C_UPSTREAM_LOST, not sent, why
        )

    cdef void on_due(self):
        """The deadline has passed, or, long after it, the provider is not expected to answer any
        more."""
        cdef Egress egress = self.egress
        cdef DubboConnection connection
        if self.waits:
            self.waits = False
            egress._finish(self, C_DEADLINE, True, "the provider's pool was full all the time")
            return
        if self.aside:
            making = self.aside == MAKING
            self._leave_aside()
            egress._finish(self, C_DEADLINE, making, LATE_MADE if making else LATE_READ)
            return
        if self.answered:
            if self.connection is not None:
                self.connection.forget(self)
            egress._finish(self, C_DEADLINE, False, "")
            return
        connection = self.connection
        self.answer(C_DEADLINE, egress._why_late())
        if connection is not None:
            connection.missed()

    def answer(self, int code, str message):
        """Answer the caller now although the provider has not: the credit stays here until it
        has."""
        cdef Egress egress = self.egress
        self.answered = True
        egress.count_error(code)
        self.session.error(self.id, code, False, message, 0)
        egress.tick.wheel.schedule(self, egress.tick.wheel.clock_us() + FORGET_US)


cdef void put_id(uint8_t* frame, uint64_t id) noexcept:
    """Give a frame another id."""
    cdef int i
    for i in range(8):
        frame[4 + i] = <uint8_t>(id >> (56 - 8 * i))


cdef bytes whole_bytes(const char* body, Py_ssize_t n, bytes owner):
    """A body as bytes; those that hold it and nothing else, if there are any."""
    if owner is not None and PyBytes_GET_SIZE(owner) == n and PyBytes_AS_STRING(owner) == body:
        return owner
    return body[:n]
