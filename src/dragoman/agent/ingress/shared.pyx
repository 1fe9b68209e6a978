"""The state that all HTTP connections of a loop share: limits, counters, and when to refuse."""

from libc.stdint cimport int64_t

from dragoman.agent.ingress.failures cimport FailureLog
from dragoman.agent.ingress.large cimport LargeCalls
from dragoman.agent.ingress.responses cimport Responses
from dragoman.budget cimport Budget, process_budget
from dragoman.observe.histogram cimport Histogram
from dragoman.rpc.tick cimport tick_of

from dragoman.agent.access import OPEN

# What this process holds for its peers.
cdef Budget of_process = process_budget()


cdef class Ingress:
    """The shared state of one loop's connections. ``directory`` tells which services there are,
    ``published``, unless it is None, the types of their methods (see ``contract.json_call``),
    ``access`` who may ask, and how."""

    def __init__(self, loop, directory, limits, published=None, access=OPEN):
        self.published = published
        self.access = access
        self.hosts_restricted = bool(access.hosts)
        self.loop = loop
        self.tick = tick_of(loop)
        self.directory = directory
        self.services = directory.services
        self.limits = limits
        self.connections = set()
        self.errors = {}
        self.latency = Histogram()
        self.budget = of_process
        self.responses = Responses(of_process, access.methods)
        self.failures = FailureLog()
        self.large = LargeCalls(loop, published)
        self.timeout_us = limits.timeout_ms * 1000
        self.request_us = limits.request_timeout_ms * 1000
        self.body_us = limits.body_timeout_ms * 1000
        self.body_rate = limits.body_rate_min
        self.idle_us = limits.idle_timeout_ms * 1000
        self.check_us = max(
            50_000, min(self.request_us, self.body_us, self.idle_us, 4 * BODY_GRACE_US) // 4
        )

    def drain(self):
        """From now on the last response of each connection says ``connection: close``.

        What still comes on a connection is answered, for its client could not know. Connections
        that nothing comes on are for ``close_silent``.
        """
        self.draining = True
        self._drained_us = self.tick.wheel.clock_us()

    def close_silent(self, int for_ms):
        """While draining: let go of connections that are idle and have been silent for so long."""
        cdef int64_t since_us = self.tick.wheel.clock_us() - for_ms * 1000
        if since_us < self._drained_us:
            return
        for connection in list(self.connections):
            connection.close_silent(since_us)

    def abort(self):
        """Close everything now."""
        for connection in list(self.connections):
            connection.close()

    def shed(self, double proportion):
        """From now on refuse this proportion of requests, 0.0 to 1.0: the process is short of
        memory."""
        self._pressure = proportion

    cdef bint sheds(self) noexcept:
        """Whether this request is one of those to refuse."""
        if not self._pressure and not self.budget.bytes_max:
            return False
        self._due_refusals += max(self._pressure, self.budget.pressure())
        if self._due_refusals < 1.0:
            return False
        self._due_refusals -= 1.0
        return True

    cdef void count_error(self, str name):
        """Count a response by its error's name."""
        self.errors[name] = self.errors.get(name, 0) + 1
