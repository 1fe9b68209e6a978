"""A fixed list of endpoints, given on the command line instead of a registry.

``static://127.0.0.1:30000?weight=2,127.0.0.1:30001?weight=3&limit=200``: addresses separated by
commas, each with the fields of a registration behind ``?`` and separated by ``&``. An endpoint
serves every interface unless it says ``interface=...``. The invariant: the list never changes, so
it is always ready.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from dragoman.errors import ProtocolError, UsageError
from dragoman.registry.base import Handle, OnChange, Registry, RegistryStatistics, Watch
from dragoman.registry.dubbo_url import provider_of, split_url
from dragoman.registry.names import EVERY, check_interface, parse_address
from dragoman.registry.registration import FOUND_OUT, Registration, default_serialization

_NUMBERS = ("weight", "limit")
# Between two providers; the URL of one has commas within.
_NEXT: Final = re.compile(r",(?=[^,=&?/]*:[0-9]+(?:[/?,]|$))")
_TEXTS = ("protocol", "serialization", "group", "version", "zone", "interface", "path", "token")


def parse_static(text: str) -> list[Registration]:
    """The endpoints that ``text`` (the URL without ``static://``) lists, ``interface`` ``*`` for
    all.

    Raises UsageError naming the endpoint and what was expected.
    """
    registrations = [_parse_endpoint(part) for part in text.split(",")]
    seen = set()
    for each in registrations:
        if (each.interface, each.address) in seen:
            raise UsageError(f"static endpoint {each.address} is listed twice")
        seen.add((each.interface, each.address))
    return registrations


def parse_dubbo(text: str) -> list[Registration]:
    """The providers that ``text`` (the URL without ``dubbo://``) lists: endpoints that speak Dubbo
    themselves, in what they are found to answer where nothing is said of it. One with a path is the
    URL that a provider has registered, with Dubbo's own parameters. Raises UsageError."""
    listed = []
    registered = []
    for part in _NEXT.split(text.rstrip("/")):
        address, _, query = part.partition("?")
        if "/" in address:
            registered.append(_registered(part))
            continue
        fields = query.split("&") if query else []
        for field in ("protocol=dubbo", f"serialization={FOUND_OUT}"):
            name = field.partition("=")[0]
            if not any(given.startswith(f"{name}=") for given in fields):
                fields.append(field)
        listed.append(f"{address}?{'&'.join(fields)}")
    return [*registered, *(parse_static(",".join(listed)) if listed else ())]


def _registered(text: str) -> Registration:
    """The provider that its own URL describes, without ``dubbo://``."""
    try:
        url = split_url(f"dubbo://{text}")
        url.parameters.setdefault("weight", "1")
        named = url.parameters.get("interface") or url.path.rpartition("/")[2]
        return provider_of(url, named).registration
    except ProtocolError as error:
        raise UsageError(str(error)) from None


def _parse_endpoint(text: str) -> Registration:
    address, _, query = text.strip().removeprefix("tcp://").partition("?")
    fields: dict[str, str | int] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name in fields:
            raise UsageError(f"static endpoint {address}: {name} is given twice")
        if name in _NUMBERS:
            if not (value.isascii() and value.isdigit()) or len(value) > 9:
                raise UsageError(f"static endpoint {address}: {name}={value}: expected a number")
            fields[name] = int(value)
        elif name in _TEXTS:
            fields[name] = unquote(value)
        else:
            raise UsageError(
                f"static endpoint {address}: unknown field {name!r}, "
                f"expected one of {', '.join(_NUMBERS + _TEXTS)}"
            )
    try:
        host, port = parse_address(address)
    except UsageError as error:
        raise UsageError(f"static endpoint: {error}") from None
    fields.setdefault("interface", EVERY)
    fields.setdefault("serialization", default_serialization(str(fields.get("protocol", "mesh"))))
    return Registration(host=host, port=port, **fields)  # type: ignore[arg-type]


class StaticRegistry(Registry):
    """Serves the endpoints it was given; registering with it changes nothing."""

    def __init__(self, registrations: list[Registration]) -> None:
        self._registrations = list(registrations)
        self._watches: list[Watch] = []
        self._handles: list[Handle] = []
        self.location = "static://" + ",".join(each.address for each in registrations)

    async def register(self, registration: Registration) -> Handle:
        """Accept and do nothing: consumers are given the list on their own command line."""
        handle = _StaticHandle(registration)
        self._handles.append(handle)
        return handle

    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """See Registry. The only snapshot arrives before this returns."""
        check_interface(interface)
        found = [
            each if interface == EVERY else _for_interface(each, interface)
            for each in self._registrations
            if interface == EVERY or each.interface in (EVERY, interface)
        ]
        watch = _StaticWatch(interface, on_change, found)
        self._watches.append(watch)
        return watch

    async def services(self) -> dict[str, list[Registration]]:
        """See Registry. Endpoints that serve every interface stand under ``*``."""
        result: dict[str, list[Registration]] = {}
        for each in sorted(self._registrations):
            result.setdefault(each.interface, []).append(each)
        return result

    def statistics(self) -> RegistryStatistics:
        """See Registry."""
        return RegistryStatistics(
            watches=len(self._watches),
            endpoints=sum(len(watch.current) for watch in self._watches),
            registrations=len(self._handles),
            registered=len(self._handles),
        )

    async def close(self) -> None:
        """See Registry."""
        self._watches.clear()
        self._handles.clear()


def _for_interface(registration: Registration, interface: str) -> Registration:
    fields = {name: getattr(registration, name) for name in registration.__struct_fields__}
    fields["interface"] = interface
    return Registration(**fields)


class _StaticHandle(Handle):
    def __init__(self, registration: Registration) -> None:
        self.registration = registration

    @property
    def registered(self) -> bool:
        return True

    async def ready(self, timeout_s: float | None = None) -> None:
        return

    async def unregister(self, timeout_s: float = 3.0) -> bool:
        return True


class _StaticWatch(Watch):
    def __init__(
        self, interface: str, on_change: OnChange | None, registrations: list[Registration]
    ) -> None:
        super().__init__(interface, on_change)
        self._publish(registrations)

    async def close(self) -> None:
        return
