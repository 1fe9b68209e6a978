"""Providers that have no agent: the provider agent's part, run in the caller's own process.

A ``DirectProviders`` stands beside one loop's services and gives them the links to endpoints whose
registration says ``protocol: dubbo`` (``Options.links``). Behind each address is one connection,
and one pool of credits with the provider's limit, whatever the number of services it serves; each
service has its own ``Egress`` over these, joined to the service's session through ``rpc.pipe``. So
balance, credits, retries, breaker and deadlines are those of providers with an agent.

A registry may list any number of providers, and any number of services at one address. So attempts
to connect are the ``cluster.dialing.Dialer``'s, which it shares with all others of its loop; users
hear of a change some a tick, and of none that says nothing new; and nothing that is about a single
user looks at all of them.

Invariants: a session stands only while the provider takes requests, so an endpoint that is away is
seen as away before anything is sent to it; a provider that is about to stop is given nothing new,
and let go when all is answered; the pool's limit is never more than this process's share of the
provider's, and less for as long as the provider turns calls away because others have its places.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from dragoman.budget import Budget
from dragoman.cluster.dialing import DialedLink, Dialer
from dragoman.dubbo.upstream.departure import Departure
from dragoman.dubbo.upstream.egress import Egress
from dragoman.dubbo.upstream.encode_request import check_serialization
from dragoman.dubbo.upstream.finding import Finding
from dragoman.dubbo.upstream.link import DubboLink
from dragoman.dubbo.upstream.transcoder import Transcoder
from dragoman.flow.credits import CreditPool
from dragoman.registry.registration import (
    DEFAULT_LIMIT,
    DEFAULT_SERIALIZATION,
    FOUND_OUT,
    Registration,
)
from dragoman.rpc.backoff import Backoff
from dragoman.rpc.pipe import join
from dragoman.rpc.server_session import ServerSession

if TYPE_CHECKING:
    from dragoman.rpc.client_session import ClientSession

log = logging.getLogger("dragoman.dubbo")

# What a registration says is spoken to such a provider.
PROTOCOL: Final = "dubbo"
# What is spoken where it does not say, until it is found not to answer.
UNSAID: Final = "fastjson"
# How many users hear of a change in one tick of the loop: each may open a session.
USERS_A_TICK: Final = 32


def _first_of(registration: Registration) -> str:
    """The serialization that a provider is asked in first."""
    said = registration.serialization
    return DEFAULT_SERIALIZATION if said == FOUND_OUT else said or UNSAID


class DirectProviders:
    """The providers that one loop speaks Dubbo to itself.

    ``share`` is this worker's number and how many there are: together they do not exceed a
    provider's limit, as long as that is at least their number. ``timeout_ms`` bounds how long a
    call may occupy a provider's place; ``body_bytes_max`` is the longest request taken. ``dialer``
    starts the attempts to connect, this one's own if there is no other. What providers make it
    hold counts in ``budget``, the process's unless it is given.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        share: tuple[int, int] = (0, 1),
        connections: int = 1,
        timeout_ms: int = 600_000,
        body_bytes_max: int = 16 << 20,
        heartbeat_s: float = 60.0,
        dialer: Dialer | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.loop = loop
        self.make_link = partial(DialedLink, dialer or Dialer(loop))
        self.timeout_ms = timeout_ms
        self.body_bytes_max = body_bytes_max
        self.budget = budget
        self.transcoder = Transcoder(loop, budget=budget)
        self._share = share
        self._connections = connections
        self._heartbeat_s = heartbeat_s
        self._providers: dict[str, DirectProvider] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def link(
        self,
        registration: Registration,
        new_session: Callable[[], ClientSession],
        on_down: Callable[[str], None],
    ) -> DirectLink:
        """The link to an endpoint: a ``cluster.member.LinkFactory``.

        Raises UsageError for a serialization that is not spoken here.
        """
        return DirectLink(self, registration, new_session, on_down)

    def at(self, registration: Registration) -> DirectProvider:
        """The provider at a registration's address, made when it is asked for first."""
        provider = self._providers.get(registration.address)
        if provider is None:
            link = self._connections, self._heartbeat_s
            provider = DirectProvider(self, registration.host, registration.port, link)
            self._providers[registration.address] = provider
        return provider

    def forget(self, address: str, provider: DirectProvider) -> None:
        """Nobody uses ``provider`` any more: it is closed."""
        if self._providers.get(address) is provider:
            del self._providers[address]
        closing = self.loop.create_task(provider.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def share_of(self, limit: int) -> int:
        """How many of the ``limit`` places of a provider are this worker's; one at least."""
        index, count = self._share
        return max(1, limit // count + (index < limit % count))

    async def close(self) -> None:
        """Close every connection; what is under way there is lost."""
        await self.transcoder.close()
        providers = list(self._providers.values())
        await asyncio.gather(*self._closing, *(each.close() for each in providers))

    def status(self) -> list[dict[str, Any]]:
        """Plain data for the status page."""
        return [provider.status() for provider in self._providers.values()]


class DirectProvider:
    """What the links to one address share: the connection and the credits."""

    def __init__(
        self, providers: DirectProviders, host: str, port: int, link: tuple[int, float]
    ) -> None:
        self._providers = providers
        self._loop = providers.loop
        count, heartbeat_s = link
        self.link = DubboLink(
            self._loop,
            host,
            port,
            self._on_change,
            count,
            heartbeat_s,
            providers.make_link,
            providers.budget,
        )
        self.limit = providers.share_of(DEFAULT_LIMIT)
        self.pool = CreditPool(self.limit)
        self.sessions: set[ServerSession] = set()
        self._users: dict[DirectLink, None] = {}
        # Who is still to hear of a change, in turn, and what was told last.
        self._untold: dict[DirectLink, None] = {}
        self._told: tuple[bool, bool, str | None] | None = None
        # How many users say each limit.
        self._limits: Counter[int] = Counter()
        self._limit_due = False
        # How many users have a session.
        self.busy = 0
        self._started = False
        self._departure = Departure(self.link)
        self._finding: Finding | None = None

    def find_out(self, egress: Egress, interface: str) -> None:
        """Have ``egress`` speak what the provider is found to answer in."""
        if self._finding is None:
            self._finding = Finding(egress, interface)
            self.link.greeter = self._finding
            self._finding.ask_now()
        else:
            self._finding.follow(egress)

    def needed_no_more(self, egress: Egress) -> None:
        """``egress`` has ended."""
        if self._finding is not None:
            self._finding.forget(egress)

    def add(self, user: DirectLink) -> None:
        """``user`` wants to be told of the provider's comings and goings."""
        self._users[user] = None
        self.limited(user, user.registration.limit or DEFAULT_LIMIT)
        if not self._started:
            self._started = True
            self.link.start()

    def remove(self, user: DirectLink) -> None:
        """``user`` needs it no more; without users it is closed."""
        self._users.pop(user, None)
        self._untold.pop(user, None)
        if self._users:
            self.limited(user, 0)
            return
        self._providers.forget(user.registration.address, self)

    def limited(self, user: DirectLink, limit: int) -> None:
        """``user``'s registration says this limit now, 0 when it is gone. The first one's is taken
        over at once, what changes later once a tick.
        """
        before, user.limit = user.limit, limit
        if before == limit:
            return
        kinds = len(self._limits)
        if limit:
            self._limits[limit] += 1
        changed = len(self._limits) != kinds
        if before:
            self._limits[before] -= 1
            if not self._limits[before]:
                del self._limits[before]
                changed = True
        if kinds == 0:
            self._set_limit()
        elif changed and not self._limit_due:
            self._limit_due = True
            self._loop.call_soon(self._set_limit)

    def _set_limit(self) -> None:
        """Take over what the registrations say now."""
        self._limit_due = False
        if not self._limits:
            return
        limit = self._providers.share_of(max(self._limits))
        if limit != self.limit:
            for user in self._users:
                if user.egress is not None:
                    user.egress.limit_max = limit
            # The egresses lower it where other processes have the provider's places.
            self.limit = limit
            self.pool.set_limit(limit)

    @property
    def usable(self) -> bool:
        """Whether it takes requests."""
        return not self._departure.under_way and self.link.usable

    @property
    def stopping(self) -> bool:
        """Whether it has said that it is about to stop."""
        return self.link.stopping

    @property
    def reason(self) -> str | None:
        """Why it takes no requests, as far as is known."""
        return self.link.reason

    def hurry(self) -> None:
        """Connect now rather than later."""
        for link in self.link.links:
            link.hurry()

    def need(self) -> None:
        """Calls wait for it."""
        for link in self.link.links:
            if isinstance(link, DialedLink):
                link.need()

    def let_go(self) -> None:
        """A session has ended: with the last one, a provider that is about to stop is let go."""
        if self.stopping and not self.busy:
            self._departure.begin()

    def _on_change(self) -> None:
        self.let_go()
        now = self.usable, self.stopping, self.reason
        if now == self._told:
            # One more attempt that failed as the others did.
            return
        self._told = now
        under_way = bool(self._untold)
        # Who has waited for the last change hears of this one before the others.
        self._untold.update(self._users)
        if not under_way:
            self._tell_some()

    def _tell_some(self) -> None:
        for user in list(islice(self._untold, USERS_A_TICK)):
            if user in self._untold:
                del self._untold[user]
                user.look()
        if self._untold:
            self._loop.call_soon(self._tell_some)

    async def close(self) -> None:
        """Close the connection; what is under way is lost."""
        await self._departure.stop()
        await self.link.close()
        for session in list(self.sessions):
            session.close()

    def status(self) -> dict[str, Any]:
        """Plain data for the status page."""
        return {
            "provider": f"{self.link.host}:{self.link.port}",
            "connections": len(self.link.connections),
            "silent": self.link.silent,
            "limit": self.limit,
            "credits": self.pool.statistics(),
        }


class DirectLink:
    """One service's way to one provider: a ``cluster.member.ServerLink``."""

    def __init__(
        self,
        providers: DirectProviders,
        registration: Registration,
        new_session: Callable[[], ClientSession],
        on_down: Callable[[str], None],
    ) -> None:
        self.registration = registration
        self._providers = providers
        self._loop = providers.loop
        self._new_session = new_session
        self._on_down = on_down
        self._backoff = Backoff()
        check_serialization(_first_of(registration))
        self._provider = providers.at(registration)
        # Made for the first session: most of what a registry lists may never have one.
        self.egress: Egress | None = None
        # What the provider counts as this one's word, and why there was no connection last.
        self.limit = 0
        self._reason: str | None = None
        self._session: ServerSession | None = None
        self._again: asyncio.TimerHandle | None = None
        self._started = False
        self._stopped = False

    def start(self) -> None:
        """See ServerLink."""
        if not self._started:
            self._started = True
            if self.registration.serialization == FOUND_OUT:
                self.egress = self._made_egress()
                self._provider.find_out(self.egress, self.registration.interface)
            self._provider.add(self)
            self.look()

    def _find_out(self) -> None:
        """Nothing has ever been answered in what was spoken, and nobody had said what to speak."""
        if self.egress is not None:
            self.egress.on_unheard = None
            self._provider.find_out(self.egress, self.registration.interface)

    def _made_egress(self) -> Egress:
        registration = self.registration
        egress = Egress(
            self._loop,
            self._provider.link,
            self._provider.pool,
            group=registration.group,
            version=registration.version,
            serialization=_first_of(registration),
            path=registration.path,
            token=registration.token,
            timeout_ms=self._providers.timeout_ms,
            sharing=True,
            limit_max=self._provider.limit,
            transcoder=self._providers.transcoder,
        )
        if not registration.serialization:
            egress.on_unheard = self._find_out
        return egress

    def held(self) -> None:
        """See ServerLink."""
        self._backoff.reset()

    def hurry(self) -> None:
        """See ServerLink."""
        self._backoff.reset()
        self._provider.hurry()

    def need(self) -> None:
        """See ServerLink."""
        self._provider.need()

    def update(self, registration: Registration) -> None:
        """See ServerLink."""
        self.registration = registration
        if self._started:
            self._provider.limited(self, registration.limit or DEFAULT_LIMIT)

    def look(self) -> None:
        """The provider's state may have changed: bring the session in line with it."""
        provider = self._provider
        if provider.usable:
            if self._session is None and self._again is None and not self._stopped:
                self._open()
        elif self._session is not None:
            if provider.stopping:
                self._session.goodbye()
            else:
                self._session.close()
        elif not self._stopped and provider.reason not in (None, self._reason):
            self._reason = provider.reason
            self._on_down(provider.reason)

    def _open(self) -> None:
        client = self._new_session()
        if self.egress is None:
            self.egress = self._made_egress()
        self._reason = None
        self._provider.busy += 1
        self._session = ServerSession(
            self._loop,
            self.egress,
            self._provider.pool,
            self._provider.sessions,
            body_bytes_max=self._providers.body_bytes_max,
            budget=self._providers.budget,
        )
        join(
            self._loop,
            self._session,
            client,
            server_name=self.registration.address,
            client_name="this process",
        )

    def lost(self) -> None:
        """See ServerLink."""
        if self._session is None:
            return
        self._session = None
        self._provider.busy -= 1
        if self._stopped:
            self._release()
            return
        if self._provider.usable:
            # The session ended by itself; the provider is there.
            self._again = self._loop.call_later(self._backoff.next_s(), self._try_again)
        else:
            self._provider.let_go()

    def _try_again(self) -> None:
        self._again = None
        self.look()

    def status(self) -> dict[str, Any]:
        """See ServerLink."""
        egress = self.egress
        return {
            "native": {
                "in_progress": 0 if egress is None else egress.in_progress,
                "rejections": 0 if egress is None else egress.rejections,
                "late": 0 if egress is None else egress.late,
                "limit": self._provider.pool.limit,
                "connections": len(self._provider.link.connections),
            }
        }

    def stop(self) -> None:
        """See ServerLink."""
        if self._stopped:
            return
        self._stopped = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._session is None:
            self._release()

    def _release(self) -> None:
        if self.egress is not None:
            self._provider.needed_no_more(self.egress)
        if self._started:
            self._provider.remove(self)
