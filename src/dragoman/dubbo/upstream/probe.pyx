"""The call of ``$echo`` that asks a provider's pool, again and again, whether it still answers.

``dubbo.upstream.egress`` starts it, and refuses calls while it is ``silent``. Invariant: at most
one is at the provider, and none while the pool's limit is used up.
"""

import logging

from dragoman.dubbo.upstream.connection cimport DubboConnection

log = logging.getLogger("dragoman.agent")


cdef class Probe(DubboCall):
    """Asks ``link``'s provider for ``interface`` every ``every_ms`` milliseconds once ``rest`` has
    been called. The link's ``on_change`` hears when it falls silent, and when it answers again."""

    def __init__(
        self, DubboLink link not None, CreditPool pool not None, Wheel wheel not None,
        Requests requests not None, str interface not None, int every_ms,
    ):
        self.link = link
        self.pool = pool
        self.wheel = wheel
        self.requests = requests
        self.interface = interface.encode()
        self.every_us = <int64_t>every_ms * 1000

    cdef void rest(self):
        """Wait for the next time."""
        self.wheel.schedule(self, self.wheel.clock_us() + self.every_us)

    cdef void stop(self):
        """Ask no more."""
        self.wheel.cancel(self)
        if self.connection is not None:
            self.connection.forget(self)

    cdef void on_due(self):
        cdef DubboConnection connection = self.connection
        cdef size_t start
        if connection is not None:
            connection.missed()
        # Which may have ended the connection, and this call with it.
        if self.connection is not None:
            connection.forget(self)
            if not self.silent:
                log.warning("provider %s:%d answers no probe", self.link.host, self.link.port)
                self.silent = True
                self.link.on_change()
        connection = self.link.pick()
        if connection is not None and self.pool.in_use < self.pool.limit:
            start = connection.out.length
            try:
                self.requests.write_echo(connection.out, connection.begin(self), self.interface)
                connection.sent()
            except MemoryError:
                connection.undo(self)
                connection.out.length = start
        self.rest()

    cdef void on_dubbo_reply(self, int status, int serialization, const char* body, Py_ssize_t n):
        # Whatever it says: a full pool and a service that is unknown are answers too.
        if self.silent:
            log.info("provider %s:%d answers again", self.link.host, self.link.port)
            self.silent = False
            self.link.on_change()

    cdef void on_dubbo_lost(self, bint sent, str why):
        self.silent = False  # the loss speaks for itself
