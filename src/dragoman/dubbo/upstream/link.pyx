"""The link to a Dubbo provider: a few long connections, made again when they are lost.

``dubbo.upstream.egress`` asks it for the least busy one of them (``dubbo.upstream.connection``).
"""

from libc.stdint cimport int64_t

from dragoman.budget cimport Budget, process_budget
from dragoman.dubbo.upstream.connection cimport DubboConnection, ProviderState

import logging
import random
from functools import partial

from dragoman.dubbo.upstream.connection import LEAVING
from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff
from dragoman.rpc.link import Link

log = logging.getLogger("dragoman.dubbo")

RECONNECT_MOST_S = 0.5


cdef class DubboLink(ProviderState):
    """A provider: ``connections`` are those that are up. ``on_change()`` hears when that changes.
    ``greeter`` has the first word on each, ``greeted`` are those where it has not ended yet.
    ``make_link`` makes what keeps each of them; a ``Link`` unless many providers share a budget of
    attempts. What the provider makes us hold counts in ``budget``, the process's unless it is
    given.
    """

    def __init__(
        self, loop, str host not None, int port, on_change, int count=1, double heartbeat_s=60.0,
        make_link=None, Budget budget=None,
    ):
        self.loop = loop
        self.budget = process_budget() if budget is None else budget
        self.host = host
        self.port = port
        self.connections = []
        self.greeted = []
        self.links = []
        self.on_change = on_change
        self.heartbeat_us = <int64_t>(heartbeat_s * 1e6)
        # Ids start anywhere and go on across reconnections.
        self._next_id = random.getrandbits(40) + 1
        make_link = make_link or partial(Link, loop)
        for _ in range(count):
            self._add(make_link)

    def _add(self, make_link):
        def made():
            return DubboConnection(self, link)

        def down(reason):
            if self.reason != reason:
                log.log(
                    logging.INFO if self._leaving else logging.WARNING,
                    "provider %s:%d is down: %s", self.host, self.port, reason,
                )
            self.reason = reason
            self.on_change()

        # The provider is beside its agent: asking often costs nothing, and it is used again soon.
        link = make_link(
            Address(self.host, self.port), made, down, Backoff(most_s=RECONNECT_MOST_S)
        )
        self.links.append(link)

    def start(self):
        """Begin connecting."""
        for link in self.links:
            link.start()

    def leave(self):
        """Close all connections, and connect no more until ``start``: the provider has said that it
        is about to stop. Calls under way are lost."""
        for link in self.links:
            link.abandon()
        for connection in self.connections + self.greeted:
            connection.close()
        self.reason = LEAVING

    async def close(self):
        """Stop reconnecting and close."""
        for link in self.links:
            await link.stop()
        for connection in self.connections + self.greeted:
            connection.close()

    @property
    def stopping(self):
        """Whether the provider has said that it is about to stop, on all its connections."""
        return bool(self.connections) and self.pick() is None

    @property
    def idle(self):
        """Whether no call is under way on any connection."""
        for connection in self.connections:
            if (<DubboConnection>connection).inflight:
                return False
        return True

    @property
    def usable(self):
        """Whether some connection is up and its provider takes requests."""
        return self.pick() is not None

    @property
    def silent(self):
        """Whether it has fallen silent, on every connection that is up."""
        cdef DubboConnection best = self.pick()
        return best is not None and best.silent

    cdef DubboConnection pick(self):
        """The least busy usable connection, a silent one only if there is no other; or None."""
        cdef DubboConnection connection, best = None
        for connection in self.connections:
            if connection.readonly_event:
                continue
            if best is None or connection.silent < best.silent or (
                connection.silent == best.silent and connection.inflight < best.inflight
            ):
                best = connection
        return best
