"""A registration: an endpoint of an interface, and the key and the value that it stands under.

Every registry gives these to its watchers; etcd keeps them in this layout too. The invariant: a
registration's fields are in range, whoever made it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import msgspec

from dragoman.errors import ProtocolError, UsageError
from dragoman.options import shown as quoted
from dragoman.registry.names import (
    EVERY,
    check_interface,
    format_address,
    is_host,
    parse_address,
    shown,
)
from dragoman.wire.json.text import DEPTH_MAX, check_value
from dragoman.wire.misfit import UNREADABLE, json_misfit, misfit

# A value is a handful of short fields; anything larger is not ours and is not parsed.
VALUE_BYTES_MAX: Final = 16384
WEIGHT_MAX: Final = 1_000_000
LIMIT_MAX: Final = 1_000_000
METHODS_MAX: Final = 1024
LABEL_MAX: Final = 256
# What MISSION.md's provider runs at once; a registration without a limit means such a provider.
DEFAULT_LIMIT: Final = 200
# What every release of Dubbo answers unless it has been told otherwise.
DEFAULT_SERIALIZATION: Final = "hessian2"
# Of a provider whose serialization is found out when it is connected to, before its first call.
FOUND_OUT: Final = "auto"

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
        if not isinstance(self.host, str) or not is_host(self.host):
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
