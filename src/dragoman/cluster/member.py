"""A server as its service has to know it: a registration is that, and so is a ``Member``.

And what it asks of the links to servers that are reached otherwise than by connecting to them
(``Options.links``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dragoman.registry.registration import Registration
    from dragoman.rpc.client_session import ClientSession


class Listed(Protocol):
    """A server to connect to, at ``host:port`` or ``unix:/path``, with its capacity compared with
    others'."""

    @property
    def address(self) -> str:
        """The address where it listens."""
        ...

    @property
    def weight(self) -> float:
        """Its capacity."""
        ...


@dataclass(frozen=True)
class Member:
    """A server that was named by its user rather than by a registry."""

    address: str
    weight: float = 1


def protocol_of(registration: object) -> str:
    """The protocol of a server; ``mesh`` unless it says another."""
    protocol: str = getattr(registration, "protocol", "mesh")
    return protocol


class ServerLink(Protocol):
    """Keeps a session to a server, as ``rpc.link.Link`` does, in a way of its own.

    It is made with a factory of sessions, each to be given a transport, and with ``on_down``, to
    be told why there is none at the moment.
    """

    def start(self) -> None:
        """Begin; returns at once."""

    def held(self) -> None:
        """The session works: the server has granted credit."""

    def lost(self) -> None:
        """The session has ended, and its calls with it."""

    def hurry(self) -> None:
        """Try again now rather than later."""

    def need(self) -> None:
        """Calls wait for it: those that were never tried stand behind it."""

    def update(self, registration: Registration) -> None:
        """Take over what is registered of the server, which speaks as before."""

    def status(self) -> dict[str, Any]:
        """Plain data for the status page, beside that of every endpoint."""

    def stop(self) -> None:
        """Make no more sessions; the current one is left to end by itself."""


LinkFactory = Callable[
    ["Registration", "Callable[[], ClientSession]", Callable[[str], None]], ServerLink
]
