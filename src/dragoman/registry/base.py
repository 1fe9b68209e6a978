"""What a registry is: who serves which interface, told as registrations and watched as snapshots.

The agents and ``dragoman.cluster`` call these interfaces; ``etcd``, ``static`` and ``memory``
implement them, and ``tests/registry`` holds every implementation to the same conduct. The
invariant: a watcher always has the last complete list that was known, and no failure of the
registry takes it away.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from dragoman.errors import ProtocolError, RegistryError, UsageError
from dragoman.observe.faults import log_fault
from dragoman.options import shown as quoted
from dragoman.options import text
from dragoman.registry.changes import OnChanges, Snapshots
from dragoman.wire.json.text import DEPTH_MAX, check_value
from dragoman.wire.misfit import UNREADABLE, json_misfit, misfit

# A value is a handful of short fields; anything larger is not ours and is not parsed.
VALUE_BYTES_MAX: Final = 16384
INTERFACE_BYTES_MAX: Final = 512
WEIGHT_MAX: Final = 1_000_000
LIMIT_MAX: Final = 1_000_000
METHODS_MAX: Final = 1024
LABEL_MAX: Final = 256
# As much of a name or an error as a message shows.
SHOWN_MAX: Final = 300
# What MISSION.md's provider runs at once; a registration without a limit means such a provider.
DEFAULT_LIMIT: Final = 200
# What every release of Dubbo answers unless it has been told otherwise.
DEFAULT_SERIALIZATION: Final = "hessian2"
# Of a provider whose serialization is found out when it is connected to, before its first call.
FOUND_OUT: Final = "auto"
# What to watch for all interfaces at once; no service can be called so.
EVERY: Final = "*"

_INTERFACE = re.compile(r"[^\s/\x00-\x1f\x7f?#]+")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.-]+)?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

_Weight = Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)]
_Limit = Annotated[int, msgspec.Meta(ge=0, le=LIMIT_MAX)]
_Name = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z0-9_.+-]*\Z")]
_Label = Annotated[str, msgspec.Meta(max_length=LABEL_MAX)]
_Methods = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=LABEL_MAX)], ...],
    msgspec.Meta(max_length=METHODS_MAX),
]
_Millis = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
_Path = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[^\s\x00-\x1f\x7f]*\Z")]
_Token = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*\Z")]


class Registration(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One endpoint of one interface. Immutable, hashable, ordered by interface, host and port.

    ``weight`` is the endpoint's capacity relative to others, 1 or more. ``limit`` is how many
    requests it takes at once; 0 means that it is not stated and has to be learnt. ``protocol`` is
    what is spoken to ``host:port`` (``mesh`` for a provider agent), ``serialization`` what the
    provider behind it expects. ``group``, ``version`` and ``zone`` are free text, empty when
    unused. What a provider may say of itself besides: the names of its ``methods``, how long a
    call may take (``timeout_ms``, 0 when not stated), its ``application`` and the ``release`` of
    Dubbo it runs; and what calls must name to be served: the ``path`` that it serves the interface
    under, empty when that is the interface's name, and its ``token``, a secret, which no text of
    the registration shows. Raises UsageError when a field is out of its range.
    """

    interface: str
    host: str
    port: int
    weight: _Weight = 1
    limit: _Limit = DEFAULT_LIMIT
    protocol: _Name = "mesh"
    serialization: _Name = "fastjson"
    group: _Label = ""
    version: _Label = ""
    zone: _Label = ""
    methods: _Methods = ()
    timeout_ms: _Millis = 0
    application: _Label = ""
    release: _Label = ""
    path: _Path = ""
    token: _Token = ""

    def __repr__(self) -> str:
        said = [
            f"{name}={'***' if name == 'token' else repr(value)}"
            for name in self.__struct_fields__
            if (value := getattr(self, name))
        ]
        return f"Registration({', '.join(said)})"

    def plain(self) -> dict[str, Any]:
        """Its fields by name, for people: without the token."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "token"}

    def __post_init__(self) -> None:
        check_interface(self.interface)
        if not isinstance(self.host, str) or not _is_host(self.host):
            raise UsageError(f"host {quoted(self.host)}: expected a host name or an IP address")
        if type(self.port) is not int or not 0 < self.port < 65536:
            raise UsageError(f"port {quoted(self.port)} of {self.host}: expected 1 to 65535")
        value = _value_of(self)
        try:
            msgspec.convert(value, _Value)
        except UNREADABLE:
            raise UsageError(f"registration of {self.address}: {misfit(value, _Value)}") from None

    @property
    def address(self) -> str:
        """``host:port``, with an IPv6 host in brackets."""
        return format_address(self.host, self.port)

    def key(self, prefix: str) -> str:
        """The key under ``prefix``: ``<prefix>/<interface>/<host:port>``."""
        return f"{prefix}/{self.interface}/{self.address}"

    def value(self, *, leaving: bool = False) -> bytes:
        """The key's value as JSON; ``leaving`` says that it is about to be unregistered."""
        fields = _value_of(self)
        if leaving:
            fields["leaving"] = True
        return msgspec.json.encode(fields)


class _Value(msgspec.Struct, frozen=True):
    """The JSON value of a key. Unknown fields are tolerated: a newer writer may add some."""

    weight: _Weight = 1
    limit: _Limit = DEFAULT_LIMIT
    protocol: _Name = "mesh"
    serialization: _Name | None = None
    group: _Label = ""
    version: _Label = ""
    zone: _Label = ""
    methods: _Methods = ()
    timeout_ms: _Millis = 0
    application: _Label = ""
    release: _Label = ""
    path: _Path = ""
    token: _Token = ""
    leaving: bool = False


class Entry(NamedTuple):
    """A decoded key and value: the registration, and whether it is about to leave."""

    registration: Registration
    leaving: bool


_decode_value = msgspec.json.Decoder(_Value).decode


def shown(text: str) -> str:
    """What stands in a registry, for a message of one line: anybody may have written it."""
    if len(text) > SHOWN_MAX:
        text = f"{text[:SHOWN_MAX]}..."
    return text if text.isprintable() else ascii(text)[1:-1]


def decode_entry(prefix: str, key: str, value: bytes) -> Entry:
    """The registration that ``key`` (``<prefix>/<interface>/<host:port>``) and its JSON ``value``
    hold.

    An empty value means defaults, as in the contest's layout. Raises ProtocolError naming the key
    and what was expected.
    """
    interface, address = split_key(prefix, key)
    name = shown(key)
    if interface == EVERY:
        raise ProtocolError(
            f"registry entry {name}: expected the name of an interface, not {EVERY}"
        )
    if len(value) > VALUE_BYTES_MAX:
        raise ProtocolError(
            f"registry entry {name}: {len(value)} bytes of value, "
            f"expected at most {VALUE_BYTES_MAX}"
        )
    try:
        if value.count(b"[") + value.count(b"{") > DEPTH_MAX:
            # How deep msgspec goes depends on Python's release.
            check_value(value)
        fields = _decode_value(value) if value else _Value()
        host, port = parse_address(address)
        registration = Registration(
            interface=interface,
            host=host,
            port=port,
            weight=fields.weight,
            limit=fields.limit,
            protocol=fields.protocol,
            serialization=(
                default_serialization(fields.protocol)
                if fields.serialization is None
                else fields.serialization
            ),
            group=fields.group,
            version=fields.version,
            zone=fields.zone,
            methods=fields.methods,
            timeout_ms=fields.timeout_ms,
            application=fields.application,
            release=fields.release,
            path=fields.path,
            token=fields.token,
        )
    except UsageError as error:
        raise ProtocolError(f"registry entry {name}: {shown(str(error))}") from None
    except UNREADABLE:
        raise ProtocolError(f"registry entry {name}: {json_misfit(value, _Value)}") from None
    return Entry(registration, fields.leaving)


def split_key(prefix: str, key: str) -> tuple[str, str]:
    """Interface and address of ``key``. Raises ProtocolError when it is not laid out so."""
    rest = key.removeprefix(f"{prefix}/")
    interface, slash, address = rest.partition("/")
    if rest == key or not slash or not interface or not address:
        raise ProtocolError(
            f"registry entry {shown(key)}: expected {prefix}/<interface>/<host:port>"
        )
    return interface, address


def default_serialization(protocol: str) -> str:
    """What a server that does not say it expects: of agents what those of the contest spoke; of
    Dubbo's own nothing is known.
    """
    return "" if protocol == "dubbo" else "fastjson"


def check_registry(name: str, registry: Any) -> None:
    """Raise UsageError, which names the option, for what is neither a URL nor a Registry. It is
    not shown: it may hold a password."""
    if not isinstance(registry, str | Registry):
        kind = type(registry).__name__
        raise UsageError(f"{name}: expected a URL or an open Registry, not {kind}")


def check_interface(interface: str) -> None:
    """Raise UsageError unless ``interface`` can name a service in a key."""
    if not isinstance(interface, str) or not _INTERFACE.fullmatch(interface):
        raise UsageError(
            f"interface {quoted(interface)}: expected a name such as com.example.IHelloService"
        )
    if len(interface.encode("utf-8", "surrogatepass")) > INTERFACE_BYTES_MAX:
        raise UsageError(f"interface name: expected at most {INTERFACE_BYTES_MAX} bytes")


def check_service(interface: str) -> None:
    """Raise UsageError unless ``interface`` names one: it is not every interface either."""
    if interface == EVERY:
        raise UsageError(
            f"interface {interface!r}: expected one, with a name such as com.example.IHelloService"
        )
    check_interface(interface)
    text("interface", interface)


def parse_address(text: str, *, bare: bool = False) -> tuple[str, int]:
    """``host:port`` as its parts, ``[address]:port`` for IPv6; ``bare``: an IPv6 address may stand
    without brackets, as Java writes it, and what follows the last colon is the port. Raises
    UsageError.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        well_formed = ":" in host
    else:
        well_formed = bare or ":" not in host
    if not (colon and well_formed and _is_host(host) and _PORT.fullmatch(port)):
        raise UsageError(f"address {shown(text)!r}: expected host:port")
    if int(port) > 65535:
        raise UsageError(f"address {shown(text)!r}: expected a port from 1 to 65535")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """``host:port``, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_host(host: str) -> bool:
    if ":" not in host:
        return bool(_HOST.fullmatch(host))
    if not _IPV6.fullmatch(host):
        return False
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _value_of(registration: Registration) -> dict[str, object]:
    said = {
        "methods": registration.methods,
        "timeout_ms": registration.timeout_ms,
        "application": registration.application,
        "release": registration.release,
        "path": registration.path,
        "token": registration.token,
    }
    return {
        "weight": registration.weight,
        "limit": registration.limit,
        "protocol": registration.protocol,
        "serialization": registration.serialization,
        "group": registration.group,
        "version": registration.version,
        "zone": registration.zone,
        **{name: value for name, value in said.items() if value},
    }


log = logging.getLogger("dragoman.registry")

OnChange = Callable[[list[Registration]], None]


class RegistryStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A registry's state and counters since it was opened; counters never fall.

    ``healthy``: the last exchange with the registry succeeded. ``malformed_entries``: set aside
    now. ``held_entries``: gone from the registry without goodbye, still served for a grace period.
    """

    healthy: bool = True
    watches: int = 0
    endpoints: int = 0
    registrations: int = 0
    registered: int = 0
    malformed_entries: int = 0
    held_entries: int = 0
    lists_total: int = 0
    watch_starts_total: int = 0
    compactions_total: int = 0
    repairs_total: int = 0
    errors_total: int = 0
    leases_lost_total: int = 0
    conflicts_total: int = 0


class Handle(ABC):
    """A registration that stands until it is withdrawn, and is made again whenever it is lost."""

    registration: Registration

    @property
    @abstractmethod
    def registered(self) -> bool:
        """Whether, as far as is known, the registry holds it now."""

    @abstractmethod
    async def ready(self, timeout_s: float | None = None) -> None:
        """Return once it stands. Raises RegistryError with the reason after ``timeout_s``."""

    @abstractmethod
    async def unregister(self, timeout_s: float = 3.0) -> bool:
        """Withdraw it; True when the registry confirmed, False when that must wait for the lease.

        Never raises for an unreachable registry, and may be called twice.
        """


class Watch(ABC):
    """The endpoints of one interface, kept up to date."""

    def __init__(self, interface: str, on_change: OnChange | None) -> None:
        self.interface = interface
        self._on_change = on_change
        self._current: list[Registration] | None = None
        self._first = asyncio.Event()

    @property
    def current(self) -> list[Registration]:
        """A copy of the last snapshot, sorted; empty before the first."""
        return list(self._current or ())

    @property
    def count(self) -> int:
        """How many endpoints are listed now."""
        return len(self._current or ())

    @property
    def has_snapshot(self) -> bool:
        """Whether a first snapshot has arrived, though it may be empty."""
        return self._current is not None

    @property
    def why_unread(self) -> str:
        """Why there is no snapshot yet, in a line."""
        return f"the registry has not been read yet: {self._reason() or 'it has not answered'}"

    async def ready(self, timeout_s: float | None = None) -> None:
        """Return once the first snapshot has arrived; RegistryError with the reason after the
        timeout.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._first.wait()
        except TimeoutError:
            raise RegistryError(
                f"no list of {self.interface} within {timeout_s:g} s: {self._reason()}"
            ) from None

    @abstractmethod
    async def close(self) -> None:
        """Stop watching; ``on_change`` is not called any more. May be called twice."""

    def _reason(self) -> str:
        """Why there is no snapshot yet, for the message of ``ready``."""
        return "the registry has not answered"

    def _publish(self, registrations: list[Registration]) -> None:
        """Take over a snapshot and tell the watcher when it differs from the last."""
        snapshot = sorted(registrations)
        if self._current is not None and snapshot == self._current:
            return
        self._current = snapshot
        self._first.set()
        if self._on_change is not None:
            try:
                self._on_change(list(snapshot))
            except Exception as error:
                log_fault(log, error, "a watcher of %s failed on a snapshot", self.interface)


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider publishes of a method: its name and its types, as Java writes them
    (``int``, ``java.lang.String``, ``java.util.List<com.example.User>``, ``byte[]``).
    """

    name: str
    parameter_types: tuple[str, ...] = ()
    return_type: str = ""
    # Of the classes of beans in its parameters: those fields whose values Java does not make of
    # the text that JSON has for them, and what leads to such, with their types.
    fields: dict[str, dict[str, str]] = {}


def fields_of(methods: Iterable[Method], name: str) -> dict[str, dict[str, str]]:
    """The ``fields`` of the methods called ``name``."""
    found: dict[str, dict[str, str]] = {}
    for each in methods:
        if each.name == name and each.fields:
            found |= each.fields
    return found


def types_of(methods: Iterable[Method], name: str, count: int) -> list[str] | None:
    """The types of the one method called ``name`` with ``count`` parameters; None if there is none,
    or several."""
    fitting = {
        each.parameter_types
        for each in methods
        if each.name == name and len(each.parameter_types) == count
    }
    return list(fitting.pop()) if len(fitting) == 1 else None


class Registry(ABC):
    """Who serves what. To be used on the loop it was opened on.

    ``location`` tells where it is without user or password, for logs and messages.
    """

    location: str

    @abstractmethod
    async def register(self, registration: Registration) -> Handle:
        """Have ``registration`` stand from now on; returns at once, ``Handle.ready`` waits."""

    @abstractmethod
    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """Follow the endpoints of ``interface``, or of all interfaces when it is ``EVERY``.

        ``on_change`` is called on the loop with each new snapshot, sorted: the first one as soon as
        it is known (perhaps before this returns), even when it is empty, and then whenever it
        differs from the last. It must not block; what it raises is logged and does not end the
        watch.
        """

    def watch_services(
        self, on_changes: OnChanges, on_complete: Callable[[], None] | None = None
    ) -> Watch:
        """Follow all interfaces, entry by entry: ``on_changes`` is called on the loop with some
        changes a turn, so that a registry of any size and its changes hold nobody up.
        ``on_complete`` is called when all that has changed has been told, the first time once all
        is known.
        """
        changes = Snapshots(asyncio.get_running_loop(), on_changes, on_complete)
        return self.watch(EVERY, changes.take)

    @abstractmethod
    async def services(self) -> dict[str, list[Registration]]:
        """Every interface with its endpoints, sorted. Raises RegistryError."""

    async def metadata(
        self, interface: str, *, group: str = "", version: str = ""
    ) -> tuple[Method, ...]:
        """The methods of ``interface`` where its providers publish them, else nothing.

        What is found is kept for a while, so asking before every call is cheap. Raises
        RegistryError when the registry does not answer.
        """
        return ()

    async def publish(
        self,
        interface: str,
        methods: Sequence[Method],
        *,
        group: str = "",
        version: str = "",
        application: str = "",
    ) -> bool:
        """Tell callers the types of a service's methods, which ``metadata`` gives them; returns at
        once, and is done in the background. False where a registry has no place for it.
        """
        return False

    @abstractmethod
    def statistics(self) -> RegistryStatistics:
        """A frozen picture of its state and counters."""

    @property
    def healthy(self) -> bool:
        """Whether the last exchange with the registry succeeded."""
        return self.statistics().healthy

    @abstractmethod
    async def close(self) -> None:
        """Withdraw all registrations, end all watches, leave nothing open. May be called twice."""
