"""Dubbo's own way to say what a provider is: a URL, as its registries keep it.

    dubbo://10.0.0.7:20880/com.example.Hello?application=shop&methods=greet&side=provider&...

Used by ``zookeeper`` and ``nacos``: from a registration to the URL that Java consumers expect, and
back, and from an ``override://`` or ``absent://`` URL to what it changes. Pure text work. The
invariant: what is read is bounded and checked like every registration, and a malformed URL is a
ProtocolError that names what was expected, and no secret.

What a URL means is what Java's consumers of 2.7 and 3 make of it. The path is what calls name,
which need not be the interface. A parameter ``default.NAME`` (2.6) is NAME's value where that is
not said, whatever NAME is. The last colon before the path stands before the port, so an IPv6
address needs no brackets, and may have a scope (``fe80::1%eth0:20880``). One malformed parameter
that no call depends on takes no provider out: it is left out, and told.

An override with a port is about the provider there; one without is about the *consumer* of that
host. Its ``application`` and ``side`` are the consumer's too, ``~NAME`` is a condition on the
parameter NAME of the provider's URL as the consumer sees it; ``*`` is any value.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from dragoman.errors import ProtocolError, UsageError
from dragoman.registry.names import format_address, parse_address
from dragoman.registry.registration import (
    DEFAULT_LIMIT,
    DEFAULT_SERIALIZATION,
    LABEL_MAX,
    LIMIT_MAX,
    METHODS_MAX,
    WEIGHT_MAX,
    Registration,
)

log = logging.getLogger("dragoman.registry")

# Dubbo's defaults.
DEFAULT_WEIGHT: Final = 100
PROTOCOL_VERSION: Final = "2.0.2"
# From this release on providers and consumers of Dubbo 2 and 3 treat each other alike.
DEFAULT_RELEASE: Final = "2.7.0"
DEFAULT_APPLICATION: Final = "dragoman"
NO_VERSION: Final = "0.0.0"
# What 2.6 writes before the names of parameters that its provider's defaults say.
_DEFAULT: Final = "default."
# What stands for every host, and for every value of a condition.
ANY_HOST: Final = "0.0.0.0"
ANY: Final = "*"
# Parameters of a provider that matter here: overrides may change these.
CHANGEABLE: Final = frozenset(
    (
        "disabled",
        "limit",
        "prefer.serialization",
        "serialization",
        "threads",
        "timeout",
        "token",
        "weight",
        "zone",
    )
)
# What is written into URLs as it is.
_TEXTS: Final = (
    "application",
    "group",
    "path",
    "release",
    "serialization",
    "token",
    "version",
    "zone",
)
# In the order in which one is taken where a provider says that it takes several.
SPOKEN: Final = ("hessian2", "fastjson", "fastjson2")
# A provider's URL names all its methods, twice in those of some releases.
URL_CHARS_MAX: Final = 65536
# What no call depends on: where it is malformed in a registry, the provider serves without it.
_NUMBERS: Final = ("limit", "threads", "timeout", "timestamp", "weight")
_LABELS: Final = ("application", "release", "zone")


class ProviderEntry(NamedTuple):
    """A provider as a registry of Dubbo lists it."""

    registration: Registration
    timestamp_ms: int
    """When it registered: of two entries for one address the later counts."""
    disabled: bool
    """Whether it is to be given nothing."""


class Consumer(NamedTuple):
    """Who looks at the providers: what the conditions of overrides are about."""

    application: str = DEFAULT_APPLICATION
    hosts: frozenset[str] = frozenset()
    """The addresses of its machine."""


class Override(NamedTuple):
    """What an ``override://`` URL changes for the providers that it concerns, and an ``absent://``
    URL for those that say nothing of it.
    """

    host: str
    port: int
    group: str
    version: str
    conditions: dict[str, str]
    """What parameters must say: those of the provider's URL with the consumer's over them."""
    addresses: str
    changes: dict[str, str]
    absent: bool = False
    applies: bool = True
    priority: int = 0

    def concerns(
        self, registration: Registration, consumer: Consumer, said: Mapping[str, str]
    ) -> bool:
        """Whether it is about this provider, whose parameters are ``said``, for ``consumer``."""
        if not self.applies or self.group not in ("*", registration.group):
            return False
        if self.version not in ("*", registration.version):
            return False
        if self.port:
            if self.port != registration.port or self.host not in (ANY_HOST, registration.host):
                return False
        elif self.host != ANY_HOST and self.host not in consumer.hosts:
            return False
        if self.addresses and not (
            f"{registration.host}:{registration.port}" in self.addresses
            or registration.address in self.addresses
            or ANY_HOST in self.addresses
        ):
            return False
        seen = {
            **said,
            "side": "consumer",
            "application": consumer.application,
            "remote.application": registration.application,
        }
        return all(
            value == ANY or (name in seen and seen[name] == value)
            for name, value in self.conditions.items()
        )


class Url(NamedTuple):
    """The parts of a URL, ``default.`` parameters among the others."""

    protocol: str
    user: str
    authority: str
    path: str
    parameters: dict[str, str]


def read_provider(text: str, interface: str) -> ProviderEntry:
    """The provider of ``interface`` that a URL describes; raises ProtocolError.

    A provider of another protocol than Dubbo's is read like any other: who cannot speak it sees
    so from ``registration.protocol``.
    """
    return provider_of(registered_url(text, tell=True), interface)


def registered_url(text: str, *, tell: bool = False) -> Url:
    """The parts of a provider's URL as a registry has it, without what is malformed and nothing
    depends on; ``tell``: in a warning. Raises ProtocolError."""
    return _without_malformed(split_url(text), tell)


def _without_malformed(url: Url, tell: bool) -> Url:
    text = f"{url.protocol}://{url.authority}/{url.path}"
    said = dict(url.parameters)
    for name in _NUMBERS:
        try:
            number_of(text, said, name, 0)
        except ProtocolError as error:
            if tell:
                log.warning("left out: %s", error)
            del said[name]
    for name in _LABELS:
        if name in said:
            said[name] = said[name][:LABEL_MAX]
    return url._replace(parameters=said)


def read_parameters(
    protocol: str, address: str, path: str, parameters: Mapping[str, str], interface: str
) -> ProviderEntry:
    """The same from a registry that keeps a URL's parameters as a mapping. An empty ``path`` is
    the interface's name.
    """
    url = Url(protocol, "", address, path or interface, _with_defaults(parameters))
    return provider_of(_without_malformed(url, tell=True), interface)


def provider_of(url: Url, interface: str) -> ProviderEntry:
    """The provider of ``interface`` that a URL's parts describe; raises ProtocolError."""
    said = url.parameters
    text = f"{url.protocol}://{url.authority}/{url.path}"
    # An empty value says nothing, as it does to Java.
    if (said.get("category") or "providers") != "providers" or (
        said.get("side") or "provider"
    ) != "provider":
        raise ProtocolError(f"{short(text)}: expected the URL of a provider")
    named = said.get("interface") or url.path.rpartition("/")[2]
    if named != interface:
        raise ProtocolError(f"{short(text)}: expected a provider of {interface}")
    protocol = url.protocol
    if protocol != "dubbo" and "dubbo" in said.get("ext.protocol", "").split(","):
        # One port, several protocols.
        protocol = "dubbo"
    weight = number_of(text, said, "weight", DEFAULT_WEIGHT)
    try:
        host, port = parse_address(url.authority, bare=True)
        registration = Registration(
            interface=interface,
            host=host,
            port=port,
            weight=min(max(weight, 1), WEIGHT_MAX),
            limit=_limit(text, said),
            protocol=protocol,
            serialization=_serialization(said),
            group=said.get("group", ""),
            version=version_of(said),
            zone=said.get("zone", ""),
            methods=_methods(said),
            timeout_ms=min(number_of(text, said, "timeout", 0), 86_400_000),
            application=said.get("application", ""),
            release=said.get("release", ""),
            path="" if url.path == interface else url.path,
            token=said.get("token", ""),
        )
    except UsageError as error:
        raise ProtocolError(f"{short(text)}: {error}") from None
    if said.get("disabled"):
        disabled = _true(said["disabled"])
    else:
        disabled = not _true(said.get("enabled") or "true")
    timestamp_ms = number_of(text, said, "timestamp", 0)
    return ProviderEntry(registration, timestamp_ms, disabled or weight <= 0)


def write_provider(registration: Registration, *, timestamp_ms: int, pid: int) -> str:
    """The URL of ``registration`` as providers of Dubbo 2.7 and 3 write theirs.

    What Dubbo does not know (``limit``, ``zone``) is written as parameters of these names, which
    its consumers ignore.
    """
    said = parameters_of(registration, timestamp_ms=timestamp_ms, pid=pid)
    path = registration.path or registration.interface
    for name in _TEXTS:
        value = path if name == "path" else said.get(name, "")
        if any(char in value for char in "&=?#") or value != value.strip():
            shown = "" if name == "token" else f" {value!r}"
            raise UsageError(f"{name}{shown}: cannot be said in a URL of Dubbo")
    query = "&".join(f"{name}={value}" for name, value in said.items())
    return f"{registration.protocol}://{registration.address}/{path}?{query}"


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
        "token": registration.token,
        "version": registration.version,
        "weight": str(registration.weight),
        "zone": registration.zone,
    }
    return {name: value for name, value in said.items() if value}


def read_override(text: str) -> Override | None:
    """What an ``override://`` or ``absent://`` URL says; None for one that is off, or changes
    nothing that is looked at here. Raises ProtocolError.
    """
    url = split_url(text)
    said = url.parameters
    if url.protocol not in ("override", "absent") or not _true(said.get("enabled") or "true"):
        return None
    for name in ("weight", "timeout", "threads", "limit"):
        number_of(text, said, name, 0)
    changes = {name: value for name, value in said.items() if name in CHANGEABLE and value}
    if not changes:
        return None
    host, port = _place_of(text, url.authority)
    conditions = {
        name.removeprefix("~"): value
        for name, value in said.items()
        if name.startswith("~") or name in ("application", "side")
    }
    if url.user:
        conditions.setdefault("application", url.user)
    return Override(
        host,
        port,
        said.get("group", ""),
        version_of(said),
        conditions,
        said.get("providerAddresses", ""),
        changes,
        absent=url.protocol == "absent",
        # Those of 2.7 say for which side they are meant.
        applies=not said.get("configVersion") or said.get("side") == "consumer",
        priority=number_of(text, said, "priority", 0),
    )


def _place_of(text: str, authority: str) -> tuple[str, int]:
    """Host and port of an override; 0 for no port."""
    try:
        host, port = parse_address(authority, bare=True)
    except UsageError as error:
        host, port = authority, 0
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        try:
            parse_address(format_address(host, 1))
        except UsageError:
            raise ProtocolError(f"{short(text)}: {error}") from None
    return host, port


def in_order(overrides: Iterable[Override]) -> list[Override]:
    """Overrides in the order in which they are applied: the later wins."""
    return sorted(overrides, key=lambda each: (each.host, each.priority))


def overridden(
    provider: ProviderEntry,
    overrides: Iterable[Override],
    consumer: Consumer | None = None,
    url: Url | None = None,
) -> ProviderEntry:
    """``provider`` with what all ``overrides`` that concern it change; later ones win.

    ``url`` is what the provider registered, where there are parameters of it that no registration
    has. What cannot be a provider's after a change leaves it as it was.
    """
    registration = provider.registration
    if url is None:
        said = parameters_of(registration, timestamp_ms=provider.timestamp_ms, pid=0)
        if provider.disabled:
            said["disabled"] = "true"
        path = registration.path or registration.interface
        url = Url(registration.protocol, "", registration.address, path, said)
    changed = dict(url.parameters)
    for each in overrides:
        if each.concerns(registration, consumer or Consumer(), url.parameters):
            changed = {**each.changes, **changed} if each.absent else {**changed, **each.changes}
    if changed == url.parameters:
        return provider
    try:
        return provider_of(url._replace(parameters=changed), registration.interface)
    except ProtocolError as error:
        log.warning("an override is left out: %s", error)
        return provider


def split_url(text: str) -> Url:
    """The parts of ``text``; raises ProtocolError for what is no URL."""
    if len(text) > URL_CHARS_MAX:
        raise ProtocolError(
            f"{short(text)}: {len(text)} characters, expected at most {URL_CHARS_MAX}"
        )
    protocol, separator, rest = text.partition("://")
    if not separator or not protocol:
        raise ProtocolError(f"{short(text)}: expected protocol://host:port/interface?...")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    user, _, authority = authority.rpartition("@")
    # As Java does: what is said twice counts as said last.
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    said = {name: value for name, _, value in pairs}
    return Url(protocol, user.partition(":")[0], authority, path.lstrip("/"), _with_defaults(said))


def _with_defaults(said: Mapping[str, str]) -> dict[str, str]:
    """``said`` with the parameters that only their ``default.`` says."""
    found = dict(said)
    for name, value in said.items():
        if name.startswith(_DEFAULT) and not said.get(name.removeprefix(_DEFAULT)):
            found[name.removeprefix(_DEFAULT)] = value
    return found


def _true(text: str) -> bool:
    """Whether Java takes a parameter for true."""
    return text.lower() == "true"


def _serialization(said: Mapping[str, str]) -> str:
    """What to speak to a provider: what it insists on, or the best of what it prefers."""
    insisted = said.get("serialization", "")
    if insisted:
        return insisted
    preferred = [each.strip() for each in said.get("prefer.serialization", "").split(",") if each]
    for each in SPOKEN:
        if each in preferred:
            return each
    return preferred[0] if preferred else DEFAULT_SERIALIZATION


def version_of(said: Mapping[str, str]) -> str:
    """The version that parameters say; empty for Dubbo's own word for none."""
    version = said.get("version", "")
    return "" if version == NO_VERSION else version


def _methods(said: Mapping[str, str]) -> tuple[str, ...]:
    methods = said.get("methods", "")
    if methods in ("", "*"):
        return ()
    named = {each.strip() for each in methods.split(",")}
    return tuple(sorted(each for each in named if 0 < len(each) <= LABEL_MAX)[:METHODS_MAX])


def _limit(text: str, said: Mapping[str, str]) -> int:
    """Its places: our own word for it, or Dubbo's for the size of its pool of threads."""
    if said.get("limit"):
        return min(number_of(text, said, "limit", 0), LIMIT_MAX)
    threads = number_of(text, said, "threads", 0)
    return min(threads, LIMIT_MAX) if threads > 0 else DEFAULT_LIMIT


def number_of(text: str, said: Mapping[str, str], name: str, default: int) -> int:
    """A parameter that is a whole number; raises ProtocolError."""
    value = said.get(name, "")
    if not value:
        return default
    digits = value[1:] if value[0] in "+-" else value
    if not (digits.isascii() and digits.isdigit()) or len(value) > 18:
        shown = value[:32] if value.isprintable() else repr(value[:32])
        raise ProtocolError(f"{short(text)}: {name}={shown}: expected a number")
    return int(value)


def short(text: str, what: str = "provider") -> str:
    """Enough of a URL to find it, without what may be a secret of somebody's."""
    return f"{what} URL {text.partition('?')[0].rpartition('@')[2][:200]!r}"
