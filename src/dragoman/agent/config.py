"""The agents' configuration: what can be set, from where, and what is allowed.

``load`` reads options, ``DRAGOMAN_*`` variables and a TOML file, in this order of precedence, then
the defaults; all three say the same things under the same names (``--timeout-ms``,
``DRAGOMAN_TIMEOUT_MS``, ``timeout_ms``). The invariant: a configuration that exists is valid; what
is wrong is one UsageError that names the place and what was expected.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, get_args, get_type_hints

import msgspec

from dragoman.agent.access import check_host, check_origin
from dragoman.balance.policies import POLICIES
from dragoman.dubbo.upstream.encode_request import SERIALIZATIONS
from dragoman.errors import UsageError
from dragoman.observe.logs import LEVELS
from dragoman.registry import check_registry_url, format_address, parse_address
from dragoman.registry.names import check_service
from dragoman.registry.registration import FOUND_OUT, LIMIT_MAX, WEIGHT_MAX, Registration
from dragoman.registry.url import default_weight
from dragoman.wire.misfit import UNREADABLE, misfit, toml_misfit

# What a provider is asked in: whatever it is found to answer in.
AUTO: Final = FOUND_OUT

# Names that files and variables may still use, and today's.
RENAMED: Final = {"memory_mb_max": "memory_mib_max"}

_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_CountOrNone = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
_Workers = Annotated[int, msgspec.Meta(ge=1, le=256)]
_Millis = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
_MillisOrNone = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=64, le=1 << 30)]
_Weight = Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)]
_Limit = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)]
_Seconds = Annotated[int, msgspec.Meta(ge=1, le=86_400)]
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of both agents. Durations in milliseconds, sizes in bytes, ``host:port``."""

    listen: str
    registry: str = "etcd://127.0.0.1:2379"
    workers: _Workers = 1
    admin: str = ""
    timeout_ms: _Millis = 5000
    body_bytes_max: _Bytes = 8 * 1024 * 1024
    connections_max: _Count = 16384
    memory_mib_max: _CountOrNone = 0
    drain_ms: _Millis = 8000
    log_level: str = "info"

    listens_alone: ClassVar[bool] = False
    """Whether each worker has an address of its own, rather than a share of one."""

    def for_worker(self, index: int) -> Self:
        """The configuration of worker ``index`` of ``workers``."""
        return self

    def __post_init__(self) -> None:
        _check_address("listen", self.listen, any_port=True)
        if self.admin:
            _check_address("admin", self.admin, any_port=True)
        _checked("registry", check_registry_url, self.registry)
        if self.log_level not in LEVELS:
            raise _Wrong("log_level", self.log_level, f"expected one of {', '.join(LEVELS)}")


class ConsumerConfig(AgentConfig, frozen=True, kw_only=True):
    """The consumer agent: HTTP in, the mesh out."""

    listen: str = "127.0.0.1:20000"
    policy: str = "demand"
    queue_max: _CountOrNone = 4096
    head_bytes_max: _Bytes = 16384
    idle_timeout_ms: _Millis = 60_000
    header_timeout_ms: _Millis = 10_000
    body_timeout_ms: _Millis = 60_000
    body_rate_min: _CountOrNone = 1024
    allow_get: bool = False
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    takeover: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for host in self.allow_host:
            _checked("allow_host", check_host, host)
        for origin in self.allow_origin:
            _checked("allow_origin", check_origin, origin)
        if self.policy not in POLICIES:
            raise _Wrong("policy", self.policy, f"expected one of {', '.join(POLICIES)}")


class ProviderConfig(AgentConfig, frozen=True, kw_only=True):
    """The provider agent: the mesh in, Dubbo out, registered under ``advertise``."""

    listens_alone: ClassVar[bool] = True

    listen: str = "127.0.0.1:30000"
    timeout_ms: _Millis = 600_000
    provider: str = "127.0.0.1:20880"
    interface: tuple[str, ...]
    allow_any_interface: bool = False
    advertise: str = ""
    group: str = ""
    version: str = ""
    zone: str = ""
    serialization: str = AUTO
    path: str = ""
    token: str = ""
    weight: _Weight | None = None
    limit: _Limit | Literal["auto"] = 200
    connections: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    lease_ttl_s: _Seconds = 10
    probe_ms: _MillisOrNone = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_address("provider", self.provider)
        if self.advertise:
            _check_address("advertise", self.advertise)
        if self.serialization not in (AUTO, *SERIALIZATIONS):
            expected = f"expected {AUTO} or one of {', '.join(SERIALIZATIONS)}"
            raise _Wrong("serialization", self.serialization, expected)
        if not self.interface:
            raise _Wrong("interface", "", "expected at least one, such as com.example.IHello")
        for each in self.interface:
            _checked("interface", check_service, each)
        if len(set(self.interface)) != len(self.interface):
            raise _Wrong("interface", ", ".join(self.interface), "expected each only once")
        host, port = listen_address(self.listen)
        if not self.advertise and host in ("0.0.0.0", "::"):
            raise _Wrong("advertise", "", f"expected the address others reach {self.listen} under")
        if self.limit != "auto" and self.limit < self.workers:
            raise _Wrong("limit", self.limit, f"expected at least one for each of {self.workers}")
        for each in filter(None, (self.listen, self.advertise)):
            if listen_address(each)[1] + self.workers - 1 > 65535:
                raise _Wrong("workers", self.workers, f"no so many ports from {each} up")
        if port or self.advertise:
            _checked("registration", lambda _: self.registrations(), None)

    @property
    def weighs(self) -> int:
        """``weight``, or what providers have by default in the registry."""
        return self.weight or default_weight(self.registry)

    def for_worker(self, index: int) -> Self:
        """See AgentConfig. The port counts up from ``listen``, and the limit is divided.

        Every worker is an endpoint of its own: consumers connect to each of them, so that none
        idles while its share of the limit is needed, as chance would have it on a shared port.
        """
        if self.workers == 1:
            return self
        limit = self.limit
        if limit != "auto":
            limit = limit // self.workers + (index < limit % self.workers)
        return msgspec.structs.replace(
            self,
            listen=_port_up(self.listen, index),
            advertise=_port_up(self.advertise, index),
            limit=limit,
            weight=-(-self.weighs // self.workers),
            workers=1,
        )

    def registrations(self, listening_port: int = 0) -> list[Registration]:
        """The registrations, one for each interface, at ``advertise`` or where it listens.

        ``listening_port`` is the port that was really bound when ``listen`` asks for port 0.
        """
        host, port = listen_address(self.advertise or self.listen)
        return [
            Registration(
                interface=each,
                host=host,
                port=port or listening_port,
                weight=self.weighs,
                limit=0 if self.limit == "auto" else self.limit,
                serialization="" if self.serialization == AUTO else self.serialization,
                group=self.group,
                version=self.version,
                zone=self.zone,
            )
            for each in self.interface
        ]


C = TypeVar("C", bound=AgentConfig)


class _Wrong(UsageError):
    """A field's value is not allowed; ``load`` adds where it came from."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        shown = f" {value!r}" if value not in (None, "") else ""
        super().__init__(f"{field}{shown}: {expected}")
        self.field = field
        self.rest = f"{shown}: {expected}"


def load(
    kind: type[C],
    table: str,
    *,
    options: Mapping[str, object],
    environment: Mapping[str, str],
    file: Path | None = None,
) -> C:
    """A ``kind`` from options, environment, file and defaults, the first that says something
    winning.

    ``options`` maps fields to what the command line gave, None where nothing. In the file, fields
    stand in ``[table]`` or, for every agent, at the top. Raises UsageError.
    """
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for field, value in (_read_file(file, table, hints) if file else {}).items():
        values[field], origins[field] = value, f"{file}: [{table}] {field}"
    for name in (*RENAMED, *hints):
        field, variable = RENAMED.get(name, name), f"DRAGOMAN_{name.upper()}"
        if variable in environment:
            values[field] = _from_text(hints[field], environment[variable], variable)
            origins[field] = variable
    for field, option in options.items():
        if option is None or option in ([], ()):
            continue
        place = f"option {option_name(field)}"
        values[field] = (
            _from_text(hints[field], option, place) if isinstance(option, str) else option
        )
        origins[field] = place
    return _build(kind, values, origins)


def changed(config: AgentConfig) -> list[tuple[str, str]]:
    """The settings of ``config`` that are not the defaults, as they are named in a file, but for
    those that may hold a password, or that are told by themselves.
    """
    out = []
    for field in msgspec.structs.fields(config):
        value = getattr(config, field.name)
        if value != field.default and field.name not in ("registry", "token", "admin"):
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            out.append((field.name, text))
    return out


def option_name(field: str) -> str:
    """``--timeout-ms`` for ``timeout_ms``."""
    return "--" + field.replace("_", "-")


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``, where port 0 means any free one. Raises UsageError."""
    if text.endswith(":0"):
        return parse_address(text[:-1] + "1")[0], 0
    return parse_address(text)


def _port_up(address: str, by: int) -> str:
    """``address`` with its port moved up; port 0 and no address at all stay as they are."""
    if not address:
        return address
    host, port = listen_address(address)
    return format_address(host, port + by if port else 0)


def _build(kind: type[C], values: dict[str, object], origins: Mapping[str, str]) -> C:
    try:
        return msgspec.convert(values, kind)
    except _Wrong as wrong:
        place = origins.get(wrong.field, option_name(wrong.field))
        raise UsageError(f"{place}{wrong.rest}") from None
    except UNREADABLE:
        for each in msgspec.structs.fields(kind):
            if each.required and each.name not in values:
                raise UsageError(f"{option_name(each.name)} is required") from None
        found = misfit(values, kind)
        field = str(found.place[0]) if found.place else ""
        place = origins.get(field, field)
        shown = f" {values[field]!r}" if field in values else ""
        raise UsageError(f"{place}{shown}: {found.why}") from None


def _read_file(path: Path, table: str, hints: Mapping[str, Any]) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration file {path}: {toml_misfit(error)}") from None
    known = {*get_type_hints(ConsumerConfig), *get_type_hints(ProviderConfig)}
    fields: dict[str, object] = {}
    for name, value in content.items():
        if name in ("consumer", "provider"):
            continue
        field = _known_field(path, "at the top", name, known)
        if field in hints:
            fields[field] = value
    section = content.get(table, {})
    if not isinstance(section, dict):
        raise UsageError(f"{path}: {table}: expected a table [{table}]")
    for name, value in section.items():
        fields[_known_field(path, f"in [{table}]", name, set(hints))] = value
    for field, value in fields.items():
        if _is_list(hints[field]) and isinstance(value, str):
            fields[field] = [value]
    return fields


def _known_field(path: Path, where: str, name: str, known: set[str]) -> str:
    field = name.replace("-", "_")
    field = RENAMED.get(field, field)
    if field not in known:
        near = get_close_matches(name, known, 1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise UsageError(f"{path}: unknown setting {name!r} {where}{hint}")
    return field


def _is_list(hint: Any) -> bool:
    return bool(getattr(hint, "__origin__", None) is tuple)


def _from_text(hint: Any, text: object, place: str) -> object:
    """The value of a variable's or an option's text in a field of type ``hint``."""
    if not isinstance(text, str):
        return text
    if _is_list(hint):
        return [part.strip() for part in text.split(",") if part.strip()]
    kinds = get_args(hint) if getattr(hint, "__args__", None) else (hint,)
    if hint is str or str in kinds:
        return text
    if hint is bool:
        if text.lower() not in _TRUTHS:
            raise UsageError(f"{place} {text!r}: expected true or false")
        return _TRUTHS[text.lower()]
    if "auto" in str(hint) and text == "auto":
        return text
    digits = text.replace("_", "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 15:
        also = " or auto" if "auto" in str(hint) else ""
        raise UsageError(f"{place} {text!r}: expected a whole number{also}")
    return int(digits)


def _check_address(field: str, text: str, *, any_port: bool = False) -> None:
    try:
        _, port = listen_address(text)
    except UsageError:
        raise _Wrong(field, text, "expected host:port") from None
    if not port and not any_port:
        raise _Wrong(field, text, "expected a port from 1 to 65535")


def _checked(field: str, check: Any, value: object) -> None:
    """Run ``check`` and say which field it refused."""
    try:
        check(value)
    except UsageError as error:
        raise _Wrong(field, None, str(error)) from None
