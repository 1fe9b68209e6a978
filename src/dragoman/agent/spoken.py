"""The serialization that a provider's registration names, for the agent beside it.

A provider that has registered itself where its agent registers (Dubbo's own registry in ZooKeeper
or Nacos) says there what it wants to be asked in. ``ProviderAgent`` follows that where it was told
nothing, and ``$echo`` is then called in it first. The invariant: this only says what is tried
first; a registry that is away, silent or wrong keeps nothing from being found out.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dragoman.errors import RegistryError
from dragoman.registry.base import Registry, Watch
from dragoman.registry.own_hosts import own_hosts
from dragoman.registry.registration import Registration

PROTOCOL: Final = "dubbo"
# How long the first list is waited for before the provider is connected to.
PATIENCE_S: Final = 0.5


class Said:
    """Calls ``expect(serialization)`` when the provider at ``host:port`` is listed with one."""

    def __init__(self, host: str, port: int, expect: Callable[[str], None]) -> None:
        self._hosts = _names_of(host)
        self._port = port
        self._expect = expect
        self._watch: Watch | None = None

    async def follow(self, registry: Registry, interface: str) -> None:
        """Follow the registry from now on; returns with its first list, or soon without."""
        self._watch = registry.watch(interface, self._listed)
        with suppress(RegistryError):
            await self._watch.ready(PATIENCE_S)

    def _listed(self, registrations: list[Registration]) -> None:
        for each in registrations:
            if each.protocol == PROTOCOL and each.port == self._port and each.host in self._hosts:
                self._expect(each.serialization)

    async def close(self) -> None:
        """Follow it no more."""
        if self._watch is not None:
            await self._watch.close()


def _names_of(host: str) -> frozenset[str]:
    """As what ``host`` may be listed: its addresses too, and all of this machine if it is one."""
    names = {host}
    with suppress(OSError):
        names |= {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    own = own_hosts()
    return frozenset(names | own if names & own else names)
