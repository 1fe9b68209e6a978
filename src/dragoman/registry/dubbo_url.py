"""Dubbo's own way to say what a provider is: a URL, as its registries keep it.

    dubbo://10.0.0.7:20880/com.example.Hello?application=shop&methods=greet&side=provider&...

Used by ``zookeeper`` and ``nacos``: from a registration to the URL that Java consumers expect, and
back, and from an ``override://`` URL to what it changes. Pure text work. The invariant: what is
read is bounded and checked like every registration, and a malformed URL is a ProtocolError that
names what was expected.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from dragoman.errors import ProtocolError, UsageError
from dragoman.registry.base import (
    DEFAULT_LIMIT,
    LIMIT_MAX,
    METHODS_MAX,
    VALUE_BYTES_MAX,
    WEIGHT_MAX,
    Registration,
    parse_address,
)

# Dubbo's defaults.
DEFAULT_WEIGHT: Final = 100
DEFAULT_SERIALIZATION: Final = "hessian2"
PROTOCOL_VERSION: Final = "2.0.2"
# From this release on providers and consumers of Dubbo 2 and 3 treat each other alike.
DEFAULT_RELEASE: Final = "2.7.0"
DEFAULT_APPLICATION: Final = "dragoman"
NO_VERSION: Final = "0.0.0"
# In the order in which one is taken where a provider says that it takes several.
SPOKEN: Final = ("hessian2", "fastjson", "fastjson2")


class Provider(NamedTuple):
    """A provider as a registry of Dubbo lists it."""

    registration: Registration
    timestamp_ms: int
    """When it registered: of two entries for one address the later counts."""
    disabled: bool
    """Whether it is to be given nothing."""


class Override(NamedTuple):
    """What an ``override://`` URL changes for the providers that it concerns."""

    host: str
    port: int
    group: str
    version: str
    weight: int | None
    disabled: bool | None

    def concerns(self, registration: Registration) -> bool:
        """Whether it is about this provider."""
        return (
            self.host in ("", "0.0.0.0", registration.host)
            and self.port in (0, registration.port)
            and self.group in ("*", registration.group)
            and self.version in ("*", registration.version)
        )


class _Url(NamedTuple):
    protocol: str
    authority: str
    path: str
    parameters: dict[str, str]


def read_provider(text: str, interface: str) -> Provider:
    """The provider of ``interface`` that a URL describes; raises ProtocolError.

    A provider of another protocol than Dubbo's is read like any other: who cannot speak it sees
    so from ``registration.protocol``.
    """
    return _provider(_split(text), interface, text)


def read_parameters(
    protocol: str, address: str, parameters: dict[str, str], interface: str
) -> Provider:
    """The same from a registry that keeps a URL's parameters as a mapping."""
    url = _Url(protocol, address, interface, parameters)
    return _provider(url, interface, f"{protocol}://{address}/{interface}")


def _provider(url: _Url, interface: str, text: str) -> Provider:
    said = url.parameters
    if said.get("category", "providers") != "providers" or said.get("side", "provider") != (
        "provider"
    ):
        raise ProtocolError(f"{_short(text)}: expected the URL of a provider")
    named = said.get("interface") or url.path.rpartition("/")[2]
    if named != interface:
        raise ProtocolError(f"{_short(text)}: expected a provider of {interface}")
    protocol = url.protocol
    if protocol != "dubbo" and "dubbo" in said.get("ext.protocol", "").split(","):
        # One port, several protocols.
        protocol = "dubbo"
    weight = _number(text, said, "weight", DEFAULT_WEIGHT)
    try:
        host, port = parse_address(url.authority)
        registration = Registration(
            interface=interface,
            host=host,
            port=port,
            weight=min(max(weight, 1), WEIGHT_MAX),
            limit=_limit(text, said),
            protocol=protocol,
            serialization=_serialization(said),
            group=said.get("group", ""),
            version=_version(said),
            zone=said.get("zone", ""),
            methods=_methods(said),
            timeout_ms=min(_number(text, said, "timeout", 0), 86_400_000),
            application=said.get("application", ""),
            release=said.get("release", ""),
        )
    except UsageError as error:
        raise ProtocolError(f"{_short(text)}: {error}") from None
    disabled = said.get("disabled") == "true" or said.get("enabled") == "false" or weight <= 0
    return Provider(registration, _number(text, said, "timestamp", 0), disabled)


def write_provider(registration: Registration, *, timestamp_ms: int, pid: int) -> str:
    """The URL of ``registration`` as providers of Dubbo 2.7 and 3 write theirs.

    What Dubbo does not know (``limit``, ``zone``) is written as parameters of these names, which
    its consumers ignore.
    """
    said = parameters_of(registration, timestamp_ms=timestamp_ms, pid=pid)
    for name in ("application", "group", "release", "serialization", "version", "zone"):
        value = said.get(name, "")
        if any(char in value for char in "&=?#") or value != value.strip():
            raise UsageError(f"{name} {value!r}: cannot be said in a URL of Dubbo")
    query = "&".join(f"{name}={value}" for name, value in said.items())
    return f"{registration.protocol}://{registration.address}/{registration.interface}?{query}"


def parameters_of(registration: Registration, *, timestamp_ms: int, pid: int) -> dict[str, str]:
    """What that URL says after ``?``, by name."""
    # Only for readers that are Java, which no other protocol has.
    dubbo = registration.protocol == "dubbo"
    said = {
        "anyhost": "true",
        "application": registration.application or (DEFAULT_APPLICATION if dubbo else ""),
        "background": "false",
        "category": "providers",
        "deprecated": "false",
        "dubbo": PROTOCOL_VERSION,
        "dynamic": "true",
        "generic": "false",
        "group": registration.group,
        "interface": registration.interface,
        "limit": str(registration.limit),
        "methods": ",".join(registration.methods) or "*",
        "pid": str(pid),
        "prefer.serialization": registration.serialization,
        "release": registration.release or (DEFAULT_RELEASE if dubbo else ""),
        "serialization": registration.serialization,
        "side": "provider",
        "timeout": str(registration.timeout_ms) if registration.timeout_ms else "",
        "timestamp": str(timestamp_ms),
        "version": registration.version,
        "weight": str(registration.weight),
        "zone": registration.zone,
    }
    return {name: value for name, value in said.items() if value}


def read_override(text: str) -> Override | None:
    """What an ``override://`` URL says; None for one that is off, or not about a weight or being
    disabled. Raises ProtocolError.
    """
    url = _split(text)
    said = url.parameters
    if url.protocol != "override" or said.get("enabled") == "false":
        return None
    weight = _number(text, said, "weight", -1)
    disabled = {"true": True, "false": False}.get(said.get("disabled", ""))
    if weight < 0 and disabled is None:
        return None
    host, port = url.authority, 0
    if ":" in host.partition("]")[2] or (":" in host and not host.startswith("[")):
        try:
            host, port = parse_address(url.authority)
        except UsageError as error:
            raise ProtocolError(f"{_short(text)}: {error}") from None
    return Override(
        host.strip("[]"),
        port,
        said.get("group", ""),
        _version(said),
        min(weight, WEIGHT_MAX) if weight >= 0 else None,
        disabled,
    )


def overridden(provider: Provider, overrides: list[Override]) -> Provider:
    """``provider`` with what all ``overrides`` that concern it change; later ones win."""
    registration, disabled = provider.registration, provider.disabled
    for override in overrides:
        if not override.concerns(registration):
            continue
        if override.disabled is not None:
            disabled = override.disabled
        if override.weight == 0:
            disabled = True
        elif override.weight is not None:
            registration = msgspec.structs.replace(registration, weight=override.weight)
    return Provider(registration, provider.timestamp_ms, disabled)


def _split(text: str) -> _Url:
    if len(text) > VALUE_BYTES_MAX:
        raise ProtocolError(
            f"{_short(text)}: {len(text)} characters, expected at most {VALUE_BYTES_MAX}"
        )
    protocol, separator, rest = text.partition("://")
    if not separator or not protocol:
        raise ProtocolError(f"{_short(text)}: expected protocol://host:port/interface?...")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    # As Java does: what is said twice counts as said last.
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return _Url(
        protocol,
        authority.rpartition("@")[2],
        path,
        {name: value for name, _, value in pairs},
    )


def _serialization(said: dict[str, str]) -> str:
    """What to speak to a provider: what it insists on, or the best of what it prefers."""
    insisted = said.get("serialization", "")
    if insisted:
        return insisted
    preferred = [each.strip() for each in said.get("prefer.serialization", "").split(",") if each]
    for each in SPOKEN:
        if each in preferred:
            return each
    return preferred[0] if preferred else DEFAULT_SERIALIZATION


def _version(said: dict[str, str]) -> str:
    version = said.get("version", "")
    return "" if version == NO_VERSION else version


def _methods(said: dict[str, str]) -> tuple[str, ...]:
    methods = said.get("methods", "")
    if methods in ("", "*"):
        return ()
    return tuple(
        sorted({each.strip() for each in methods.split(",") if each.strip()})[:METHODS_MAX]
    )


def _limit(text: str, said: dict[str, str]) -> int:
    """Its places: our own word for it, or Dubbo's for the size of its pool of threads."""
    if "limit" in said:
        return min(_number(text, said, "limit", 0), LIMIT_MAX)
    threads = _number(text, said, "threads", 0)
    return min(threads, LIMIT_MAX) if threads > 0 else DEFAULT_LIMIT


def _number(text: str, said: dict[str, str], name: str, default: int) -> int:
    value = said.get(name, "")
    if not value:
        return default
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(value) > 18:
        raise ProtocolError(f"{_short(text)}: {name}={value[:32]}: expected a number")
    return int(value)


def _short(text: str) -> str:
    """Enough of a URL to find it, without what may be a secret of somebody's."""
    return f"provider URL {text.partition('?')[0].rpartition('@')[2][:200]!r}"
