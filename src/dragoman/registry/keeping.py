"""Registrations that somebody keeps standing: what their handles have in common.

The registries that put an entry again whenever it is lost (etcd, ZooKeeper, Nacos) make their
handles of this. The invariant: ``first`` is set once the registration has stood, and ``withdrawn``
for good as soon as its owner, or a later registration of the same place, wants it no more.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from dragoman.errors import RegistryError
from dragoman.registry.base import Handle
from dragoman.registry.registration import Registration


class Keeper(Protocol):
    """Who keeps registrations standing."""

    @property
    def reason(self) -> str:
        """Why something does not stand, as far as is known."""
        ...

    async def withdraw(self, handle: Any, timeout_s: float) -> bool:
        """Take a registration of its own back. See Handle.unregister."""
        ...


class KeptHandle(Handle):
    """A registration that ``keeper`` keeps standing. See Handle."""

    def __init__(self, keeper: Keeper, registration: Registration) -> None:
        self.registration = registration
        self.standing = False
        self.withdrawn = False
        self.first = asyncio.Event()
        self._keeper = keeper

    @property
    def registered(self) -> bool:
        """See Handle."""
        return self.standing

    async def ready(self, timeout_s: float | None = None) -> None:
        """See Handle."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.first.wait()
        except TimeoutError:
            raise RegistryError(
                f"{self.registration.interface} at {self.registration.address} is not registered "
                f"within {timeout_s:g} s: {self._keeper.reason}"
            ) from None

    async def unregister(self, timeout_s: float = 3.0) -> bool:
        """See Handle."""
        return await self._keeper.withdraw(self, timeout_s)
