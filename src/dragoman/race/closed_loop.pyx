"""A closed-loop HTTP load generator: each connection asks, waits for the answer, and asks again.

``dragoman.race.load`` runs it in a process of its own. It waits on epoll itself, without an event
loop or Python call for a request, so that the pressure costs little beside what it measures. The
invariant: a connection has at most one request under way, and each request ends once: answered,
``reset``, ``timeout`` or ``malformed``; only what ends within the measured time is counted.
"""

import errno as errnos
import os
import resource
import socket

from dragoman.errors import UsageError
from dragoman.race.latency import LatencyHistogram

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

from dragoman.demo.question cimport is_answer, random_question
from dragoman.race.latency cimport LatencyHistogram
from dragoman.wire.http1.response cimport ResponseDecoder
from dragoman.wire.http1.tables cimport EV_NEED_MORE, EV_RESPONSE

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint32_t u32

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    enum:
        EPOLLIN
        EPOLLOUT
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CLOEXEC

    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int most, int timeout_ms)

cdef extern from "sys/socket.h" nogil:
    int MSG_NOSIGNAL
    ssize_t recv(int fd, void* to, size_t n, int flags)
    ssize_t send(int fd, const void* source, size_t n, int flags)

cdef enum:
    EVENTS_MAX = 512
    READ_BYTES = 65536

cdef enum:  # what a connection is doing
    WAITING     # for its time to connect
    CONNECTING
    READY       # connected, for its time to ask
    ASKING      # a request is under way

cdef int64_t MS = 1000000
cdef int64_t SECOND = 1000000000
# A refused connection is not tried again at once, nor late enough to leave the loop idle.
cdef int64_t RETRY_NS = 20 * MS
# How often the connections are looked through for what is due.
cdef int64_t SWEEP_NS = 10 * MS


cdef int64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * SECOND + now.tv_nsec


cdef class Slot:
    """One connection of the load."""

    cdef object socket
    cdef int fd
    cdef int state
    cdef uint32_t index
    cdef bint writing            # the request is not yet sent whole
    cdef int64_t due             # when to connect, to ask, or to give up
    cdef int64_t asked
    cdef bytes request
    cdef Py_ssize_t sent
    cdef int32_t expected
    cdef ResponseDecoder decoder


cdef class ClosedLoop:
    """One run of the load; ``run`` makes the figures.

    ``address`` is what ``socket.getaddrinfo`` gave. Either ``request`` is sent again and again, or
    ``form_head`` with a random form each time whose answer is checked. ``head_only``: the request
    is HEAD.
    """

    cdef tuple address
    cdef int connections
    cdef int64_t duration_ns
    cdef int64_t warmup_ns
    cdef int64_t timeout_ns
    cdef int64_t spread_ns
    cdef bytes request
    cdef bytes form_head
    cdef bint head_only
    cdef uint64_t random
    cdef list slots
    cdef int epoll
    cdef int64_t end
    cdef bint counting
    cdef bint draining
    cdef int asking
    cdef LatencyHistogram latency
    cdef long long statuses[600]
    cdef long long wrong
    cdef long long resets
    cdef long long timeouts
    cdef long long malformed
    cdef long long refused

    def __init__(
        self,
        tuple address,
        *,
        int connections,
        double duration_s,
        double warmup_s=0.0,
        double timeout_s=10.0,
        double spread_s=0.1,
        bytes request=None,
        bytes form_head=None,
        bint head_only=False,
        uint64_t seed=0,
    ):
        if (request is None) == (form_head is None):
            raise UsageError("the load needs either a request or a form")
        self.address = address
        self.connections = connections
        self.duration_ns = <int64_t>(duration_s * 1e9)
        self.warmup_ns = <int64_t>(warmup_s * 1e9)
        self.timeout_ns = <int64_t>(timeout_s * 1e9)
        self.spread_ns = <int64_t>(spread_s * 1e9)
        self.request = request
        self.form_head = form_head
        self.head_only = head_only
        self.random = (seed or int.from_bytes(os.urandom(8), "little")) | 1
        self.latency = LatencyHistogram()
        self.epoll = -1

    def run(self):
        """Apply the load and return the figures as a dict (``dragoman.race.load`` describes it)."""
        cdef int64_t start = now_ns()
        cdef int64_t measured
        cdef Slot slot
        cdef int i
        self.slots = []
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            PyErr_SetFromErrno(OSError)
        try:
            for i in range(self.connections):
                slot = Slot()
                slot.index = i
                slot.fd = -1
                slot.state = WAITING
                slot.due = start + self.spread_ns * i // self.connections
                self.slots.append(slot)
            self.end = start + self.warmup_ns
            if self.warmup_ns:
                self.turn()
            self.counting = True
            measured = now_ns()
            before = resource.getrusage(resource.RUSAGE_SELF)
            self.end = measured + self.duration_ns
            self.turn()
            measured = now_ns() - measured
            after = resource.getrusage(resource.RUSAGE_SELF)
            self.counting = False
            self.draining = True
            self.end = now_ns() + min(self.timeout_ns, 2 * SECOND)
            self.turn()
        finally:
            for slot in self.slots:
                if slot.socket is not None:
                    slot.socket.close()
            close(self.epoll)
        return self.figures(measured / 1e9, before, after)

    def figures(self, double duration_s, before, after):
        """The figures of one level, as plain data."""
        errors = {}
        cdef long long answered = self.latency.count
        cdef long long good = 0
        cdef int status
        for status in range(600):
            if self.statuses[status]:
                if 200 <= status < 400:
                    good += self.statuses[status]
                else:
                    errors[f"status_{status}"] = self.statuses[status]
        good -= self.wrong
        for kind, count in (
            ("wrong", self.wrong),
            ("connect", self.refused),
            ("reset", self.resets),
            ("timeout", self.timeouts),
            ("malformed", self.malformed),
        ):
            if count:
                errors[kind] = count
        return {
            "connections": self.connections,
            "duration_s": round(duration_s, 4),
            "requests": answered,
            "good": good,
            "qps": round(good / duration_s, 2),
            "errors": errors,
            "latency_ms": self.latency.summary(),
            "cpu_s": {
                "user": round(after.ru_utime - before.ru_utime, 4),
                "system": round(after.ru_stime - before.ru_stime, 4),
            },
        }

    cdef int turn(self) except -1:
        """Go round until ``end``, or, when draining, until no request is under way."""
        cdef epoll_event events[EVENTS_MAX]
        cdef int64_t now = now_ns()
        cdef int64_t swept = 0
        cdef int n
        cdef int i
        cdef int wait_ms
        while now < self.end and not (self.draining and self.asking == 0):
            if now - swept >= SWEEP_NS:
                self.sweep(now)
                swept = now
            wait_ms = <int>(min(SWEEP_NS, self.end - now) // MS) + 1
            with nogil:
                n = epoll_wait(self.epoll, events, EVENTS_MAX, wait_ms)
            if n < 0 and errno != EINTR:
                PyErr_SetFromErrno(OSError)
            for i in range(n):
                self.handle(<Slot>self.slots[events[i].data.u32], events[i].events)
            PyErr_CheckSignals()
            now = now_ns()
        return 0

    cdef int sweep(self, int64_t now) except -1:
        """Do what is due: connect, ask first, give up."""
        cdef Slot slot
        for slot in self.slots:
            if slot.due > now:
                continue
            if slot.state == WAITING:
                if not self.draining:
                    self.connect(slot, now)
            elif slot.state == READY:
                self.ask(slot, now)
            else:
                if self.counting:
                    if slot.state == ASKING:
                        self.timeouts += 1
                    else:
                        self.refused += 1
                self.drop(slot, now)
        return 0

    cdef int connect(self, Slot slot, int64_t now) except -1:
        cdef epoll_event event
        family, kind, protocol, _, where = self.address
        slot.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        slot.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        slot.fd = slot.socket.fileno()
        error = slot.socket.connect_ex(where)
        if error not in (0, errnos.EINPROGRESS):
            if self.counting:
                self.refused += 1
            return self.drop(slot, now + RETRY_NS)
        slot.state = CONNECTING
        slot.due = now + self.timeout_ns
        slot.decoder = ResponseDecoder(body_bytes_max=1 << 26)
        slot.decoder.head_only = self.head_only
        event.events = EPOLLOUT
        event.data.u32 = slot.index
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, slot.fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef int watch(self, Slot slot, uint32_t what) except -1:
        cdef epoll_event event
        event.events = what
        event.data.u32 = slot.index
        if epoll_ctl(self.epoll, EPOLL_CTL_MOD, slot.fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef int drop(self, Slot slot, int64_t again) except -1:
        """Close the connection; it is made anew at ``again``."""
        if slot.state == ASKING:
            self.asking -= 1
        slot.socket.close()
        slot.socket = None
        slot.fd = -1
        slot.state = WAITING
        slot.due = again
        return 0

    cdef int handle(self, Slot slot, uint32_t what) except -1:
        """Something happened to a connection."""
        cdef int64_t now = now_ns()
        if slot.fd < 0:
            return 0
        if slot.state == CONNECTING:
            if slot.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                if self.counting:
                    self.refused += 1
                return self.drop(slot, now + RETRY_NS)
            self.watch(slot, EPOLLIN)
            return self.ask(slot, now)
        if slot.state == ASKING and slot.writing and what & EPOLLOUT:
            self.flush(slot, now)
            if slot.fd < 0 or slot.writing:
                return 0
        if what & ~(<uint32_t>EPOLLOUT):
            return self.read(slot, now)
        return 0

    cdef int ask(self, Slot slot, int64_t now) except -1:
        """Send the next request."""
        if self.draining:
            return self.drop(slot, now)
        if self.form_head is not None:
            slot.request = random_question(self.form_head, &self.random, &slot.expected)
        else:
            slot.request = self.request
        slot.sent = 0
        slot.state = ASKING
        slot.asked = now
        slot.due = now + self.timeout_ns
        self.asking += 1
        return self.flush(slot, now)

    cdef int flush(self, Slot slot, int64_t now) except -1:
        cdef Py_ssize_t left = PyBytes_GET_SIZE(slot.request) - slot.sent
        cdef ssize_t n = send(
            slot.fd, PyBytes_AS_STRING(slot.request) + slot.sent, left, MSG_NOSIGNAL
        )
        if n < 0:
            if errno != EAGAIN and errno != EINTR:
                return self.broken(slot, now)
            n = 0
        slot.sent += n
        if n == left:
            if slot.writing:
                slot.writing = False
                self.watch(slot, EPOLLIN)
        elif not slot.writing:
            slot.writing = True
            self.watch(slot, EPOLLIN | EPOLLOUT)
        return 0

    cdef int broken(self, Slot slot, int64_t now) except -1:
        """The peer closed or reset the connection."""
        cdef bint asking = slot.state == ASKING
        slot.writing = False
        if asking and self.counting:
            self.resets += 1
        return self.drop(slot, now + RETRY_NS)

    cdef int read(self, Slot slot, int64_t now) except -1:
        cdef char data[READ_BYTES]
        cdef ssize_t n = recv(slot.fd, data, READ_BYTES, 0)
        cdef int event
        if n < 0:
            return 0 if errno == EAGAIN or errno == EINTR else self.broken(slot, now)
        if n == 0:
            if slot.state == ASKING and slot.decoder.finish() == EV_RESPONSE:
                return self.answered(slot, now)
            return self.broken(slot, now)
        slot.decoder.receive(PyBytes_FromStringAndSize(data, n))
        event = slot.decoder.next_event()
        if event == EV_NEED_MORE and slot.state == ASKING:
            return 0
        if event == EV_RESPONSE and slot.state == ASKING:
            return self.answered(slot, now)
        if self.counting:
            self.malformed += 1
        slot.writing = False
        return self.drop(slot, now + RETRY_NS)

    cdef int answered(self, Slot slot, int64_t now) except -1:
        """A whole response is there: count it, and ask again."""
        cdef ResponseDecoder decoder = slot.decoder
        cdef bint keep = decoder.keep_alive and not slot.writing
        if self.counting:
            self.statuses[decoder.code] += 1
            self.latency.record(now - slot.asked)
            if (
                self.form_head is not None
                and decoder.code == 200
                and not is_answer(decoder.body, decoder.body_length, slot.expected)
            ):
                self.wrong += 1
        keep = keep and decoder.next_event() == EV_NEED_MORE and not decoder.mid_message
        slot.writing = False
        if not keep:
            self.drop(slot, now)
            return self.connect(slot, now) if not self.draining else 0
        slot.state = READY
        self.asking -= 1
        return self.ask(slot, now_ns())
