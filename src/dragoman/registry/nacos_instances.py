"""Providers as instances of Nacos's services: written, and read again and again.

Used by ``nacos.NacosRegistry``. A service is called ``providers:<interface>:<version>:<group>``,
and the parameters of the provider's URL are its instances' metadata (``dubbo_url``). What Dubbo
cannot call, such as a provider's agent, stands in services called ``dragoman:...`` instead. The
invariant: a malformed instance is set aside, told once, and takes no other out.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from dragoman.errors import ProtocolError
from dragoman.registry.dubbo_url import ProviderEntry, parameters_of, read_parameters
from dragoman.registry.nacos_client import Instance, Malformed, NacosClient, instance_of
from dragoman.registry.names import EVERY, format_address
from dragoman.registry.registration import Registration

log = logging.getLogger("dragoman.registry")

CATEGORIES: Final = ("providers", "dragoman")
READS_AT_ONCE: Final = 16
# Instances that are decoded in one tick of the loop, and those that are looked at: a millisecond.
INSTANCES_A_TICK: Final = 20
LOOKS_A_TICK: Final = 1000
# In an instance's metadata: which process and registration it is of.
MARK: Final = "dragoman.id"

# A service and an address.
Place = tuple[str, str]


def service_of(registration: Registration) -> str:
    """The name of the service in Nacos that a registration is an instance of."""
    category = "providers" if registration.protocol == "dubbo" else "dragoman"
    return f"{category}:{registration.interface}:{registration.version}:{registration.group}"


def written(registration: Registration, *, mark: str, timestamp_ms: int, ttl_s: float) -> Instance:
    """The instance that a registration is: it outlives its heartbeats by ``ttl_s``."""
    ttl_ms = int(ttl_s * 1000)
    return Instance(
        ip=registration.host,
        port=registration.port,
        metadata={
            **parameters_of(registration, timestamp_ms=timestamp_ms, pid=os.getpid()),
            "path": registration.path or registration.interface,
            "protocol": registration.protocol,
            "preserved.heart.beat.interval": str(ttl_ms // 3),
            "preserved.heart.beat.timeout": str(ttl_ms),
            "preserved.ip.delete.timeout": str(ttl_ms),
            MARK: mark,
        },
    )


class InstanceReader:
    """Lists of providers. What says the same as the last time is not decoded again."""

    def __init__(self, client: NacosClient) -> None:
        self._client = client
        self._malformed: dict[str, set[str]] = {}
        self._decoded = 0
        # What each instance of a service said when it was listed last, by its text.
        self._read: dict[str, dict[bytes, _Read]] = {}
        self.lists_total = 0

    @property
    def malformed(self) -> int:
        """Instances that are set aside now."""
        return sum(map(len, self._malformed.values()))

    async def list(self, interfaces: set[str]) -> dict[Place, ProviderEntry]:
        """The providers of ``interfaces``, EVERY for all. Raises RegistryError."""
        services = []
        names = await self._client.services()
        for name in names:
            category, _, rest = name.partition(":")
            # Versions of Dubbo differ in whether they write parts that are empty.
            interface = rest.partition(":")[0]
            if category in CATEGORIES and interfaces & {EVERY, interface}:
                services.append((name, interface))
        for name in self._malformed.keys() - set(names):
            del self._malformed[name]
            self._read.pop(name, None)
        found: dict[Place, ProviderEntry] = {}
        for first in range(0, len(services), READS_AT_ONCE):
            some = services[first : first + READS_AT_ONCE]
            lists = await asyncio.gather(*(self._client.raw_instances(name) for name, _ in some))
            for (name, each), instances in zip(some, lists, strict=True):
                found |= await self._providers(name, each, instances)
        self.lists_total += 1
        return found

    async def _providers(
        self, service: str, interface: str, instances: Iterable[msgspec.Raw]
    ) -> dict[Place, ProviderEntry]:
        found = {}
        malformed = set()
        known = self._malformed.get(service, set())
        before = self._read.get(service, {})
        read: dict[bytes, _Read] = {}
        for number, raw in enumerate(instances, 1):
            text = bytes(raw)
            one = before.get(text)
            if one is None:
                one = _read(interface, text)
                self._decoded += 1
                if self._decoded % INSTANCES_A_TICK == 0:
                    await asyncio.sleep(0)
            elif number % LOOKS_A_TICK == 0:
                await asyncio.sleep(0)
            read[text] = one
            if one.malformed is not None:
                if one.malformed not in known:
                    log.warning("set aside: an entry of %s: %s", interface, one.why)
                malformed.add(one.malformed)
            elif one.provider is not None:
                found[service, one.address] = one.provider
        self._malformed[service] = malformed
        self._read[service] = read
        return found


class _Read(NamedTuple):
    """What an instance says: a provider, unless it is away; or what is wrong with it, by a name."""

    address: str = ""
    provider: ProviderEntry | None = None
    malformed: str | None = None
    why: str = ""


def _read(interface: str, text: bytes) -> _Read:
    """Decode an instance of a service of ``interface``."""
    instance = instance_of(text)
    if isinstance(instance, Malformed):
        return _Read(malformed=instance.text, why=f"{instance.text!r}: {instance.reason}")
    said = {k: v for k, v in instance.metadata.items() if k not in ("path", MARK)}
    path = instance.metadata.get("path", "").lstrip("/")
    host = instance.ip.removeprefix("[").removesuffix("]")
    address = format_address(host, instance.port)
    try:
        protocol = said.pop("protocol", "dubbo")
        entry = read_parameters(protocol, address, path, said, interface)
    except ProtocolError as error:
        return _Read(malformed=address, why=str(error))
    return _Read(address, entry if instance.enabled and instance.healthy else None)
