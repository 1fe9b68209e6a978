"""One server, for all services of a loop that it serves: the link, the session, and its health.

Registries may list an address for ten thousand services; it is one program all the same. So what is
about the address is here, once: one connection with one timer for the next attempt, one line in the
log, one set of credits, and whether it answers at all. What is about one service at that address
(weight, counters, latency) is in ``cluster.endpoint``, whose ``Endpoint`` is a ``PeerUser``.
``Peers`` has the peers of a loop by their addresses. What only one service can use (a session of
``dubbo.upstream.direct``) is a peer of its own.

Invariants: ``room`` is what the session takes now, and 0 while the peer is not ready or set aside;
what a read costs does not depend on the number of users, only on those that wait; waiting users are
served in turn, none before those that stood in line; a peer nobody uses any longer is forgotten at
once, and ends when its last call has.
"""

from libc.stdint cimport int64_t

from dragoman.balance.policies cimport Candidate, Target
from dragoman.budget cimport Budget, process_budget
from dragoman.flow.breaker cimport Breaker
from dragoman.rpc.client_session cimport Call, ClientSession, SessionOwner
from dragoman.rpc.tick cimport tick_of
from dragoman.timers cimport Timed
from dragoman.wire.mesh cimport F_PING

import logging
import os
import random
from collections import deque

from dragoman.cluster.dialing import DialedLink, Dialer
from dragoman.cluster.member import protocol_of
from dragoman.errors import Code
from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff

log = logging.getLogger("dragoman.cluster")

# Why a peer is away that has said that it would be.
GOODBYE = "it has said goodbye"
STATES = ("connecting", "ready", "down", "draining")
# How many users hear of a change in one tick of the loop: what is about them may take long.
cdef Py_ssize_t USERS_A_TICK = 200
cdef int64_t CHECKUP_US = 100_000
cdef int64_t SUSPECT_US = 500_000
# A peer with calls under way is asked for a sign of life after half of this.
cdef int64_t SILENCE_US = 500_000
cdef int MISSED_MOST = 5
cdef int64_t ALL = 0x7FFFFFFFFFFFFFFF
cdef int64_t WAITING_MAX = 0x7FFFFFFF

cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST


cdef class PeerUser(Candidate):
    """A service as its peer sees it."""

    cdef str user_name(self):
        """For the log."""
        return ""

    cdef void moved(self):
        """The peer's state, or whether it is set aside, may have changed."""

    cdef bint waits(self):
        """Whether calls wait that may go to the peer."""
        return False

    cdef void fed(self, int64_t most):
        """There is room: send up to ``most`` of the calls that wait."""

    cdef void tell(self, int64_t waiting):
        """So many calls wait for credit: the server is to know of all of them."""
        cdef Peer peer = self.peer
        peer._wanted += waiting - self._told
        self._told = waiting
        if peer.session is not None:
            peer.session.tell_waiting(<int>min(peer._wanted, WAITING_MAX))

    cdef void stand_in_line(self):
        """Calls wait: when there is room again it is this one's turn some time."""
        if not self._in_line:
            self._in_line = True
            self.peer._line.append(self)


cdef class Peer(Target):
    """A server, and the session to it. Made by ``Peers.at``."""

    def __init__(self, Peers peers not None, key, options, registration):
        Target.__init__(self)
        self.peers = peers
        self.address = registration.address
        self._key = key
        self._options = options
        self.breaker = Breaker()
        self.state = CONNECTING
        self.users = {}
        self._line = deque()
        self._owner = PeerOwner()
        self._owner.peer = self
        self._checkup = Checkup()
        self._checkup.peer = self
        make = options.links.get(protocol_of(registration))
        if make is not None:
            self.link = self.special = make(registration, self._new_session, self._on_down)
            return
        seed = options.seed
        self.link = DialedLink(
            peers.dialer, Address.parse(self.address), self._new_session, self._on_down,
            None if seed is None else Backoff(source=random.Random(f"{seed} {self.address}")),
            tls=options.tls, server_hostname=options.server_hostname,
        )

    def _new_session(self):
        options = self._options
        return ClientSession(
            self.peers.loop, self._owner, name=b"dragoman", identity=options.identity,
            body_bytes_max=options.body_bytes_max, heartbeat_s=options.heartbeat_ms / 1000,
            budget=self.peers.budget,
        )

    def _on_down(self, str reason):
        """The link could not connect."""
        if not self.users:
            return
        if self.reason != reason:
            # A peer that said goodbye may go. A link of another kind tells of its own address, once
            # for all services.
            log.log(
                logging.DEBUG if self.special is not None
                else logging.INFO if self.reason == GOODBYE else logging.WARNING,
                "%s: endpoint %s is down: %s", self.names(), self.address, reason,
            )
        self.reason = reason
        if self.state != DOWN:
            self.state = DOWN
            self.tell_users()

    cdef str names(self):
        """The names of the services that use it, for the log."""
        cdef PeerUser user
        for user in self.users:
            if len(self.users) == 1:
                return user.user_name()
            return f"{user.user_name()} and {len(self.users) - 1} more"
        return "(nobody)"

    # Room

    cdef void refresh(self):
        """Take over the session's figures."""
        if self.session is None or self.state != READY:
            self.room = 0
        elif not self.breaker.open:
            self.room = self.session.room()
        else:
            self.room = 1 if self.window and self.session.credits > 0 else 0

    cdef bint contested(self, PeerUser by):
        """Whether others than ``by`` stand in line, before whom it is not to be served."""
        cdef PeerUser other
        for other in self._line:
            if other is not by and other.waits():
                return True
        return False

    cdef void feed(self):
        """There is room: those that wait are served in turn, each with its part of it."""
        cdef PeerUser user
        cdef Py_ssize_t idle = 0
        cdef int before
        if self._feeding:
            # A call that failed has made another one: the loop below sees it.
            return
        self._feeding = True
        while self._line and self.room > 0:
            user = <PeerUser>self._line.popleft()
            user._in_line = False
            if not user.waits():
                continue
            before = self.room
            user.fed(ALL if not self._line else max(1, before // (len(self._line) + 1)))
            if user.waits() and not user._in_line:
                user.stand_in_line()
            # Some cannot go whatever the room: their own bounds keep them back.
            idle = idle + 1 if self.room >= before else 0
            if idle > len(self._line):
                break
        self._feeding = False

    # Health

    cdef void heard(self):
        """It has answered: it is well."""
        cdef bint was_open = self.breaker.open
        self.suspect = False
        self.missed = 0
        self.breaker.success()
        if was_open:
            log.info("%s: endpoint %s takes part again", self.names(), self.address)
            self.refresh()
            self.tell_users()

    cdef void failed(self, int64_t now, str why):
        """A call failed there, by the server's fault; ``why`` holds nothing of the call."""
        self.aside = why
        if self.breaker.failure(now):
            self._set_aside(why)

    cdef void missed_one(self, int64_t sent_us, int64_t now):
        """A call sent then has passed its deadline, for which it had a fair time.

        That says nothing if the peer has shown since that it lives, be it by an answer to another.
        """
        if self.replied_us > sent_us:
            return
        self.missed += 1
        if self.breaker.open:
            self.breaker.failure(now)
        elif self.missed >= MISSED_MOST and now - self.asked_us > SILENCE_US:
            self.fell_silent(now, f"{self.missed} deadlines passed, and nothing was answered")

    cdef void look_silent(self, int64_t now, int64_t silence_us):
        """With calls under way: set it aside if it has fallen silent.

        One late call is only slow, if the connection answers; others may go there. Where the peer
        itself answers for the connection (``replied_us`` is then that of the last read), silence
        is silence whatever the number of calls.
        """
        cdef int64_t since_us = max(self.replied_us, self.asked_us)
        cdef int64_t read_us = max(self.session.read_us, self.asked_us)
        cdef int late
        if now - since_us <= SILENCE_US // 2:
            return
        if now - read_us > SILENCE_US // 2:
            self.session.control(F_PING, 0, 0, 0, b"")
        if now - since_us <= silence_us:
            return
        late = self._late(now, silence_us) + self.missed
        if late > 1:
            self.fell_silent(
                now, f"{late} calls are late, silent for {(now - since_us) // 1000} ms"
            )
        elif now - read_us > silence_us:
            self.fell_silent(now, f"silent for {(now - read_us) // 1000} ms")

    cdef int _late(self, int64_t now, int64_t silence_us):
        """How many calls of any service are late. What was late already when the peer last showed
        that it lives is known to be slow.
        """
        cdef Call call
        cdef int64_t sent_us
        cdef int late = 0
        for call in self.session.calls():
            sent_us = call.since()
            if sent_us and now - max(sent_us, self.replied_us) > silence_us \
                    and self.replied_us - sent_us <= silence_us:
                late += 1
        return late

    cdef void fell_silent(self, int64_t now, str why):
        """It has answered nothing for long.

        Perhaps it is only asked for something slow. The next request is a probe, and until that has
        had its time others wait rather than fail if there is no other place.
        """
        if self.breaker.open:
            return
        self.breaker.trip(now)
        self.suspect = True
        self._suspect_until_us = now + SUSPECT_US
        self.window = True
        self._set_aside(why)

    cdef void _set_aside(self, str why):
        self.aside = why
        log.warning("%s: endpoint %s is set aside: %s", self.names(), self.address, why)
        self.refresh()
        self.peers.tick.wheel.schedule(
            self._checkup, self.peers.tick.wheel.clock_us() + CHECKUP_US
        )
        self.tell_users()
        if self.room > 0:
            self.feed()

    cdef void survey(self):
        """Every 100 ms while it is set aside: let probes through."""
        cdef int64_t now = self.peers.tick.wheel.clock_us()
        if not self.breaker.open or not self.users:
            return
        if self.suspect and now > self._suspect_until_us:
            self.suspect = False
            self.tell_users()
        if self.state == READY and self.session is not None and self.session.credits > 0 \
                and self.breaker.allows(now):
            self.window = True
            self.refresh()
            self.feed()
        self.peers.tick.wheel.schedule(self._checkup, now + CHECKUP_US)

    # Users

    cdef void tell_users(self):
        """Have every user look at what has changed: some now, the others in the next ticks."""
        cdef bint under_way = self._untold is not None
        self._untold = list(self.users)
        if not under_way:
            self._tell_some()

    def _tell_some(self):
        cdef list part = self._untold[-USERS_A_TICK:]
        cdef PeerUser user
        del self._untold[-USERS_A_TICK:]
        for user in reversed(part):
            if user in self.users:
                user.moved()
        if self._untold:
            self.peers.loop.call_soon(self._tell_some)
        else:
            self._untold = None

    cdef void join(self, PeerUser user):
        """``user`` wants calls to go there."""
        self.users[user] = None
        self.link.start()

    cdef void leave(self, PeerUser user):
        """``user`` wants no more of that; its calls under way may end. Without users nothing new is
        wanted at all.
        """
        cdef ClientSession session = self.session
        if user not in self.users:
            return
        del self.users[user]
        user.tell(0)
        if user._in_line:
            user._in_line = False
            self._line.remove(user)
        if self.users:
            return
        if self._key is not None and self.peers._by_key.get(self._key) is self:
            del self.peers._by_key[self._key]
        self.peers.tick.wheel.cancel(self._checkup)
        if self.special is None:
            self.link.abandon()
        else:
            self.link.stop()
        if session is not None:
            # As though the server had said goodbye: the session closes itself when nothing is in
            # flight.
            session.goodbye_received = True
            if session.inflight == 0:
                session.close()
        else:
            self._end()

    cdef void _end(self):
        """Nobody uses it, and it has no session: let go of all that holds it."""
        self._checkup.peer = None
        self._owner.peer = None
        self.link = None if self.special is None else self.special

    cdef void end_calls(self, PeerUser user):
        """End what ``user``, which has left, has under way."""
        cdef ClientSession session = self.session
        cdef Call call
        if session is None:
            return
        for call in session.calls():
            if call.sender() is user:
                session.abandon(call)
                call.on_error(C_UPSTREAM_LOST, False, f"connection to {self.address} closed")
        if not self.users and self.inflight == 0 and not session.closed:
            session.close()


cdef class PeerOwner(SessionOwner):
    """Carries a session's events to its peer."""

    cdef void on_ready(self, ClientSession session):
        cdef Peer peer = self.peer
        if peer is None or not peer.users:
            session.close()
            return
        peer.session = session
        peer._held = False
        peer.state = READY
        peer.reason = None
        peer.replied_us = peer.peers.tick.wheel.clock_us()
        if peer.special is None:
            # What answered HELLO is no longer what has failed. Where the session is with ourselves
            # only a reply shows that.
            peer.breaker.success()
            peer.suspect = False
        log.info("%s: endpoint %s is ready", peer.names(), peer.address)
        peer.refresh()
        peer.tell_users()

    cdef void on_credit(self, ClientSession session):
        cdef Peer peer = self.peer
        if peer is not None and peer.session is session:
            if not peer._held and peer.state == READY and not session.closed:
                # Only now is it sure that the server does not send us away.
                peer._held = True
                peer.link.held()
            peer.refresh()
            if peer._line:
                peer.feed()

    cdef void on_goodbye(self, ClientSession session):
        cdef Peer peer = self.peer
        if peer is not None and peer.session is session and peer.state == READY:
            peer.state = DRAINING
            peer.refresh()
            if peer.users:
                log.info("%s: endpoint %s says goodbye", peer.names(), peer.address)
            peer.tell_users()

    cdef void on_lost(self, ClientSession session):
        cdef Peer peer = self.peer
        if peer is None:
            return
        if peer.session is session:
            peer.session = None
            if peer.state == DRAINING:
                peer.reason = GOODBYE
            else:
                if peer.users:
                    log.warning("%s: %s", peer.names(), session.failure)
                peer.reason = str(session.failure)
            peer.state = DOWN
            peer.refresh()
            peer.tell_users()
        elif peer.state == CONNECTING:
            peer.state = DOWN
            peer.reason = str(session.failure)
            peer.tell_users()
        if peer.link is not None:
            peer.link.lost()
        if not peer.users and peer.session is None and peer.special is None:
            peer._end()


cdef class Checkup(Timed):
    """Looks after a peer that is set aside."""

    cdef void on_due(self):
        if self.peer is not None:
            self.peer.survey()


cdef class Peers:
    """The peers of the services on one loop that are to share them (``Options.peers``).

    ``identity`` is who they are to servers, where their options do not say it. What the servers
    make them hold counts in ``budget``, the process's unless it is given.
    """

    def __init__(self, loop, Budget budget=None):
        self.loop = loop
        self.budget = process_budget() if budget is None else budget
        self.tick = tick_of(loop)
        self.dialer = Dialer(loop)
        self.identity = os.urandom(16)
        self._by_key = {}

    def __len__(self):
        """How many addresses are used."""
        return len(self._by_key)

    cdef Peer at(self, options, registration):
        """The peer at a registration's address, made when it is first asked for; raises UsageError.
        """
        cdef Peer peer
        if protocol_of(registration) in options.links:
            return Peer(self, None, options, registration)
        key = (registration.address, options.session_key)
        peer = self._by_key.get(key)
        if peer is None:
            peer = Peer(self, key, options, registration)
            self._by_key[key] = peer
        return peer


cdef dict _shared = {}


def peers_of(loop, size_t bytes_max=0):
    """The peers that everything on ``loop`` shares which has none of its own. What may be held for
    them is what the most generous of those who ask says (0: what the process may hold).
    """
    cdef Peers peers = _shared.get(loop)
    if peers is None:
        for other in [other for other in _shared if other.is_closed()]:
            del _shared[other]
        peers = _shared[loop] = Peers(loop, Budget(bytes_max) if bytes_max else None)
    elif bytes_max > peers.budget.bytes_max and peers.budget is not process_budget():
        peers.budget.limit(bytes_max)
    return peers
