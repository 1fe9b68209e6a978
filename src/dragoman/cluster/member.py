"""What a service has to know of a server: a registration is that, and so is a ``Member``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Listed(Protocol):
    """A server to connect to, at ``host:port`` or ``unix:/path``, with its capacity compared with
    others'."""

    @property
    def address(self) -> str:
        """Where it listens."""
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
