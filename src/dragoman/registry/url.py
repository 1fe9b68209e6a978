"""Registry URLs: from what a user writes to the registry it names.

``etcd://[user:password@]host[:port][,host[:port]...][/prefix]``,
``zookeeper://[user:password@]host[:port][,host[:port]...][/root]``,
``nacos://[user:password@]host[:port][,host[:port]...][/path][?namespace=...&group=...]``,
``static://host:port[?field=value&...] [,...]``, ``dubbo://host:port`` with the same (providers
themselves) or ``memory://name``. The invariant: no message
repeats the user or the password of a URL.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote

from dragoman.errors import UsageError
from dragoman.options import whole
from dragoman.registry.base import Registry
from dragoman.registry.dubbo_url import DEFAULT_APPLICATION
from dragoman.registry.etcd import DEFAULT_PREFIX, EtcdRegistry
from dragoman.registry.etcd_lease import LeaseSettings
from dragoman.registry.memory import MemoryRegistry
from dragoman.registry.names import format_address, parse_address, shown
from dragoman.registry.static import StaticRegistry, parse_dubbo, parse_static

ETCD_PORT: Final = 2379
ZOOKEEPER_PORT: Final = 2181
NACOS_PORT: Final = 8848
# A day: who is gone for longer is to be listed no more.
LEASE_TTL_S_MAX: Final = 86_400
SCHEMES: Final = ("etcd", "zookeeper", "nacos", "static", "dubbo", "memory")
# Registries that Java's providers share with ours, and the weight that those have by default.
JAVA_REGISTRIES: Final = ("zookeeper://", "nacos://")
JAVA_WEIGHT: Final = 100
EXPECTED: Final = (
    "expected etcd://host:port[,host:port...][/prefix], zookeeper://host:port[,host:port...], "
    "nacos://host:port[,host:port...], static://host:port,..., dubbo://host:port,... (providers "
    "themselves) or memory://name"
)


def default_weight(location: str) -> int:
    """What a provider weighs in the registry there that does not say: as much as the others."""
    return JAVA_WEIGHT if location.startswith(JAVA_REGISTRIES) else 1


class EtcdLocation(NamedTuple):
    """What an ``etcd://`` URL says."""

    members: list[str]
    prefix: str
    user: str
    password: str


class ZookeeperLocation(NamedTuple):
    """What a ``zookeeper://`` URL says."""

    hosts: list[str]
    root: str
    user: str
    password: str


class NacosLocation(NamedTuple):
    """What a ``nacos://`` URL says."""

    hosts: list[str]
    path: str
    namespace: str
    group: str
    user: str
    password: str


def open_registry(url: str, *, lease_ttl_s: int = 10) -> Registry:
    """The registry that ``url`` names, to be used on the running loop and closed with ``close()``.

    Returns at once, whether or not the registry can be reached. ``lease_ttl_s`` is how long entries
    registered here outlive their process. Raises UsageError for a URL that names none.
    """
    whole("lease_ttl_s", lease_ttl_s, 1, LEASE_TTL_S_MAX)
    scheme, rest = _split(url)
    if scheme == "etcd":
        location = parse_etcd(rest)
        return EtcdRegistry(
            location.members,
            prefix=location.prefix,
            user=location.user,
            password=location.password,
            lease=LeaseSettings(ttl_s=lease_ttl_s),
        )
    if scheme == "zookeeper":
        # kazoo is loaded where it is used.
        from dragoman.registry.zookeeper import ZookeeperRegistry, ZookeeperSettings

        place = parse_zookeeper(rest)
        return ZookeeperRegistry(
            place.hosts,
            root=place.root,
            user=place.user,
            password=place.password,
            application=zookeeper_application(rest),
            settings=ZookeeperSettings(session_timeout_s=float(lease_ttl_s)),
        )
    if scheme == "nacos":
        from dragoman.registry.nacos import NacosRegistry, NacosSettings

        nacos = parse_nacos(rest)
        return NacosRegistry(
            nacos.hosts,
            path=nacos.path,
            namespace=nacos.namespace,
            group=nacos.group,
            user=nacos.user,
            password=nacos.password,
            settings=NacosSettings(ttl_s=float(lease_ttl_s)),
        )
    if scheme == "static":
        return StaticRegistry(parse_static(rest))
    if scheme == "dubbo":
        return StaticRegistry(parse_dubbo(rest))
    return MemoryRegistry(rest)


def check_registry_url(url: str) -> None:
    """Raise UsageError unless ``open_registry`` would take ``url``."""
    scheme, rest = _split(url)
    if scheme == "etcd":
        parse_etcd(rest)
    elif scheme == "zookeeper":
        parse_zookeeper(rest)
    elif scheme == "nacos":
        parse_nacos(rest)
    elif scheme == "static":
        parse_static(rest)
    elif scheme == "dubbo":
        parse_dubbo(rest)


def redact_url(url: str) -> str:
    """``url`` without its user and password, for logs."""
    scheme, separator, rest = url.partition("://")
    rest = rest.partition("?")[0] if scheme == "nacos" else rest
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def _split(url: str) -> tuple[str, str]:
    if not isinstance(url, str):
        raise UsageError(f"registry: expected a URL, not {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES or not rest:
        raise UsageError(f"registry {shown(redact_url(url))!r}: {EXPECTED}")
    return scheme, rest


def parse_etcd(rest: str) -> EtcdLocation:
    """What stands behind ``etcd://``. Raises UsageError, without the user or password."""
    hosts, path, user, password = _parts(rest, "etcd")
    members = [f"http://{host}" for host in _addresses(hosts, ETCD_PORT)]
    prefix = DEFAULT_PREFIX
    if path.strip("/"):
        prefix = "/" + path.rstrip("/")
        if any(char.isspace() or char in "?#" for char in prefix):
            raise UsageError(f"registry: prefix {prefix!r}: expected a path such as /dubbomesh")
    return EtcdLocation(members, prefix, user, password)


def parse_zookeeper(rest: str) -> ZookeeperLocation:
    """What stands behind ``zookeeper://``. Raises UsageError, without the user or password.

    Dubbo's own way to name the others of an ensemble (``?backup=host:port,...``) is understood, and
    ``application``, which is whose consumers these are.
    """
    place, _, query = rest.partition("?")
    hosts, path, user, password = _parts(place, "zookeeper")
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name == "backup":
            hosts = f"{hosts},{value}"
        elif name != "application":
            raise UsageError(
                f"registry: {name!r} in a zookeeper URL: expected backup, application or nothing"
            )
    root = "/" + (path.strip("/") or "dubbo")
    if any(char.isspace() or char == "#" for char in root) or "//" in root:
        raise UsageError(f"registry: root {root!r}: expected a path such as /dubbo")
    return ZookeeperLocation(_addresses(hosts, ZOOKEEPER_PORT), root, user, password)


def zookeeper_application(rest: str) -> str:
    """Whose consumers look into the registry, by what stands behind ``zookeeper://``."""
    for pair in rest.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if name == "application" and value:
            return unquote(value)
    return DEFAULT_APPLICATION


def parse_nacos(rest: str) -> NacosLocation:
    """What stands behind ``nacos://``. Raises UsageError, without the user or password.

    They may also be given as Dubbo does, with ``?username=...&password=...``.
    """
    place, _, query = rest.partition("?")
    hosts, path, user, password = _parts(place, "nacos")
    said = {"namespace": "", "group": "DEFAULT_GROUP", "username": user, "password": password}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name not in said:
            raise UsageError(
                f"registry: {name!r} in a nacos URL: expected one of {', '.join(said)}"
            )
        said[name] = unquote(value)
    if bool(said["username"]) != bool(said["password"]):
        raise UsageError("registry: expected a username and a password in a nacos URL, or none")
    return NacosLocation(
        _addresses(hosts, NACOS_PORT),
        "/" + (path.strip("/") or "nacos"),
        said["namespace"],
        said["group"],
        said["username"],
        said["password"],
    )


def _parts(rest: str, scheme: str) -> tuple[str, str, str, str]:
    """Hosts, path, user and password."""
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    user, colon, password = credentials.partition(":")
    if at and not (user and colon and password):
        article = "an" if scheme == "etcd" else "a"
        raise UsageError(f"registry: expected user:password before the @ of {article} {scheme} URL")
    return hosts, path, unquote(user), unquote(password)


def _addresses(hosts: str, port: int) -> list[str]:
    """``host:port`` for each of ``hosts``, with ``port`` where none is named."""
    found = []
    for host in hosts.split(","):
        named_port = host.rpartition(":")[2].isdigit() and not host.endswith("]")
        try:
            address = parse_address(host if named_port else f"{host}:{port}")
        except UsageError as error:
            raise UsageError(f"registry: {error}") from None
        found.append(format_address(*address))
    if len(set(found)) != len(found):
        raise UsageError(f"registry: {hosts} names a member twice")
    return found
