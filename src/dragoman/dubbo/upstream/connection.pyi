import asyncio

from dragoman.budget import Budget
from dragoman.cluster.dialing import DialedLink
from dragoman.rpc.link import Link

KeptLink = Link | DialedLink

GREETED: str

class Greeter:
    """Has the first word on a link's connections."""

class DubboConnection(asyncio.Protocol):
    """One connection to a provider."""

    inflight: int
    closed: bool
    readonly_event: bool
    silent: bool
    def close(self) -> None:
        """Close the connection; calls on it are lost."""

class ProviderState:
    """What the connections to one provider share."""

    host: str
    port: int
    budget: Budget
    connections: list[DubboConnection]
    greeted: list[DubboConnection]
    greeter: Greeter | None
    links: list[KeptLink]
    reason: str | None
    unknown_replies: int
    protocol_errors: int
    losses: int
