"""What a provider speaks, found out on each connection before it is used.

A provider's agent that was not told makes a ``Finding`` the greeter of its link, and so does
``dubbo.upstream.direct`` for a provider whose registration does not say. ``$echo`` is
called in one serialization after another until one is answered: first in the one that was answered
before, or that its registration names, then in those of ``IN_ORDER``. Today's
providers answer the first, so that they see one small call more a connection.

Invariants: a connection is opened within ``SILENCE_US`` whatever its provider answers, or
``REFUSED_US`` if it has refused what it would be asked in; silence, and a refusal, count against
nobody; what is found out is told in one line of the log, and again only when it changes.
"""

from libc.stdint cimport int64_t

from dragoman.wire.dubbo.frame cimport DUBBO_BAD_REQUEST, DUBBO_POOL_EXHAUSTED, error_text

import logging

from dragoman.dubbo.upstream.encode_request import SERIALIZATIONS
from dragoman.errors import UsageError

log = logging.getLogger("dragoman.agent")

# Every release of Dubbo answers the first unless it was told otherwise; fastjson's providers are
# older than 3.2, or were told to be.
IN_ORDER = ("hessian2", "fastjson2", "fastjson")

# In the text of a status 40: it has been read, but no such service is there (3.3).
READ = "methodName=$echo"

# How long one is waited for before the next is tried beside it, and all of them.
cdef int64_t STEP_US = 300_000
cdef int64_t SILENCE_US = 1_200_000
# The same where the provider has said that it does not speak what it would be asked in.
cdef int64_t REFUSED_US = 10_000_000
# When a provider whose pool is full is asked again.
cdef int64_t AGAIN_US = 50_000


cdef class Finding(Greeter):
    """Finds out which serialization the provider behind ``egress`` answers in, by calls of
    ``interface``'s ``$echo``, and has the egress speak it."""

    def __init__(self, Egress egress not None, str interface not None):
        self.egress = egress
        self._followers = {}
        self._interface = interface.encode()
        self._shunned = set()

    def ask_now(self):
        """Find it out on the connections that there are, which go on being used."""
        cdef DubboConnection connection
        cdef Asking asking
        for connection in self.egress.link.connections:
            asking = Asking.__new__(Asking)
            asking.finding = self
            asking.connection = connection
            asking.order = [each for each in self.order() if each != self.egress.serialization]
            asking.outcomes = {}
            asking.questions = []
            asking.opened = True
            asking.begin()

    def follow(self, Egress egress not None):
        """From now on ``egress``, which is before the same provider, speaks what is found too."""
        self._followers[egress] = None
        egress.speak(self.egress.serialization)

    def forget(self, Egress egress not None):
        """It is needed no more."""
        self._followers.pop(egress, None)

    def expect(self, str serialization not None):
        """It is said to answer in this one: that is asked first."""
        if serialization in SERIALIZATIONS and self.found is None:
            self._said = serialization
            self.egress.speak(serialization)

    cdef list order(self):
        cdef list wanted = [self.found or self._said, *IN_ORDER]
        wanted = [each for i, each in enumerate(wanted) if each and each not in wanted[:i]]
        return [each for each in wanted if each not in self._shunned] + [
            each for each in wanted if each in self._shunned
        ]

    cdef void greet(self, DubboConnection connection):
        cdef Asking asking = Asking.__new__(Asking)
        asking.finding = self
        asking.connection = connection
        asking.order = self.order()
        asking.outcomes = {}
        asking.questions = []
        if len(self._shunned) >= len(asking.order):
            # Whatever it is asked it ends the connection: callers are to hear why.
            self._shunned.clear()
            connection.opened()
            return
        asking.begin()

    cdef void heard(self):
        """It has answered in what it is asked in: nobody is told that it never has."""
        cdef Egress egress
        for egress in [self.egress, *self._followers]:
            egress._heard = True

    cdef void choose(self, str serialization, str why):
        """Have it asked in this from now on."""
        cdef str line
        cdef Egress egress
        for egress in [self.egress, *self._followers]:
            if egress.serialization != serialization:
                egress.speak(serialization)
        line = f"asked in {serialization}: {why}"
        if line != self.told:
            self.told = line
            log.info("provider %s:%d is %s", self.egress.link.host, self.egress.link.port, line)


cdef class Asking(Timed):
    """What is being found out on one connection."""

    cdef void begin(self):
        self.begun_us = self.finding.egress.tick.wheel.clock_us()
        self.at = 0
        self.ask()

    cdef void ask(self):
        """Call ``$echo`` in the serialization whose turn it is."""
        cdef Egress egress = self.finding.egress
        cdef DubboConnection connection = self.connection
        cdef Question question = Question.__new__(Question)
        cdef size_t start = connection.out.length
        question.asking = self
        question.serialization = self.order[self.at]
        try:
            egress.requests_in(question.serialization).write_echo(
                connection.out, connection.begin_aside(question), self.finding._interface
            )
        except (UsageError, MemoryError) as error:
            connection.undo(question)
            connection.out.length = start
            self.outcomes[question.serialization] = str(error)
        else:
            self.questions.append(question)
            connection.sent()
        egress.tick.wheel.schedule(self, egress.tick.wheel.clock_us() + STEP_US)

    cdef void answered(self, Question question, int status, str why):
        cdef Egress egress = self.finding.egress
        self.questions.remove(question)
        if status == DUBBO_POOL_EXHAUSTED:
            # Nothing was read of it.
            if not self.opened:
                self.at = self.order.index(question.serialization) - 1
                egress.tick.wheel.schedule(self, egress.tick.wheel.clock_us() + AGAIN_US)
            return
        if status != DUBBO_BAD_REQUEST or READ in why:
            self.finding._shunned.clear()
            if not self.opened or not egress._heard:
                self.finding.found = question.serialization
                self.open(question.serialization, "it answers $echo in it")
                self.finding.heard()
            self.end()
            return
        self.outcomes[question.serialization] = "refused"
        if question.serialization == self.order[self.at]:
            self.on_due()

    cdef void on_due(self):
        """The next one's turn, or enough."""
        cdef Egress egress = self.finding.egress
        cdef int64_t had_us = egress.tick.wheel.clock_us() - self.begun_us
        cdef int64_t most_us
        if self.connection.closed or self.connection.readonly_event or (
            self.opened and had_us >= REFUSED_US
        ):
            # Who is about to stop is not kept for what it does not answer.
            self.connection.opened()
            self.end()
            return
        if self.at + 1 < len(self.order) and had_us < SILENCE_US:
            self.at += 1
            self.ask()
            return
        if not self.opened:
            most_us = REFUSED_US if self.order[0] in self.outcomes else SILENCE_US
            if had_us >= most_us or not self.questions:
                self.open(
                    self.order[0], ", ".join(
                        [f"{each} {self.outcomes.get(each, 'unanswered')}" for each in self.order]
                    ).join(("$echo told nothing (", ")"))
                )
        if not self.questions:
            self.end()
            return
        # A late answer is still an answer.
        egress.tick.wheel.schedule(self, egress.tick.wheel.clock_us() + STEP_US)

    cdef void open(self, str serialization, str why):
        """The connection may be used, in this serialization."""
        self.finding.choose(serialization, why)
        if not self.opened:
            self.opened = True
            self.connection.opened()

    cdef void end(self):
        """Expect no more."""
        cdef Question question
        self.finding.egress.tick.wheel.cancel(self)
        for question in self.questions:
            self.connection.forget(question)
        self.questions = []


cdef class Question(DubboCall):
    """A call of ``$echo`` in one serialization."""

    cdef void on_dubbo_reply(self, int status, int serialization, const char* body, Py_ssize_t n):
        self.asking.answered(
            self, status, error_text(serialization, body, n) if status == DUBBO_BAD_REQUEST else ""
        )

    cdef void on_dubbo_lost(self, bint sent, str why):
        cdef Asking asking = self.asking
        if self in asking.questions:
            asking.questions.remove(self)
        if sent and not asking.opened and self.serialization == asking.order[asking.at]:
            asking.finding._shunned.add(self.serialization)
        if not asking.questions:
            asking.finding.egress.tick.wheel.cancel(asking)
