"""Hosts, origins and HTTP methods that a consumer agent allows.

A browser lets any page send simple requests to any port of its user's machine, and a name that an
attacker owns may resolve to it (DNS rebinding). So requests that a page sends are refused unless
its origin is allowed, and ``Host`` can be restricted. ``agent.ingress`` asks for each request that
has such fields; the rules are the user's options. The invariant: what is not allowed never becomes
a call.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

from dragoman.agent.contract import HttpRefusal, cors_fields
from dragoman.errors import UsageError
from dragoman.wire.http1 import encode_response

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-]+)(:[0-9]{1,5})?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://(\[[0-9a-f:.]+\]|[a-z0-9_.\-]+)(:[0-9]{1,5})?")
ANY: Final = "*"
# How long a browser may remember what a preflight said, in seconds.
PREFLIGHT_S: Final = 600
# What a host or an origin that names no port means.
PORTS: Final = {"http": 80, "https": 443}
# How many spellings of ``Host`` are remembered.
_SPELLINGS_MAX: Final = 256


def check_host(text: str) -> None:
    """Raise UsageError unless ``text`` is ``host`` or ``host:port``."""
    if not _HOST.fullmatch(text) or not _is_place(text):
        raise UsageError(f"{text!r}: expected host or host:port, and brackets around IPv6")


def check_origin(text: str) -> None:
    """Raise UsageError unless ``text`` is an origin (RFC 6454) as browsers send it, or ``*``."""
    if text != ANY and not (_ORIGIN.fullmatch(text) and _is_place(text.partition("://")[2])):
        raise UsageError(f"{text!r}: expected an origin such as https://app.example.com, or *")


def _is_place(text: str) -> bool:
    name, port = _host_of(text)
    return (port or 0) < 65536 and (name[0] != "[" or ":" in name)


def _host_of(text: str) -> tuple[str, int | None]:
    """A host in the one way to write it, and the port that is named: ``Example.com.`` is
    ``example.com``, and ``[0:0::1]`` is ``[::1]``. A literal that is no address is ``[]``.
    """
    name, colon, port = text.lower().rpartition(":")
    if not colon or "]" in port:
        name, port = text.lower(), ""
    if name.startswith("["):
        try:
            name = f"[{IPv6Address(name[1:-1])}]"
        except ValueError:
            name = "[]"
    elif len(name) > 1:
        name = name.removesuffix(".")
    return name, int(port) if port else None


def _origin_of(text: str) -> str:
    """An origin in the one way to write it: without its scheme's port. A dot behind the name makes
    it another origin, as it does to browsers."""
    scheme, separator, place = text.lower().partition("://")
    if not separator or not _HOST.fullmatch(place):
        return text
    host, port = _host_of(place)
    dot = "." if place.partition(":")[0].endswith(".") else ""
    return f"{scheme}://{host}{dot}:{PORTS.get(scheme) if port is None else port}"


class Access:
    """``hosts`` that requests may be for, with or without a port (none: any), ``origins`` whose
    pages may call (none, or ``*`` for all), and whether ``get`` calls too."""

    def __init__(
        self, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (), get: bool = False
    ) -> None:
        self.hosts = frozenset(_host_of(host) for host in hosts)
        self._spellings: set[bytes] = set()
        self._origins = frozenset(_origin_of(origin) for origin in origins)
        self.get = get
        self.methods = "GET, POST" if get else "POST"
        self.methods_expected = f"{'GET or POST' if get else 'POST'} was expected"

    def check_host(self, host: bytes) -> None:
        """Raise HttpRefusal unless requests may be for ``host``, which may name a port."""
        if not self.hosts or host in self._spellings:
            return
        name, port = _host_of(host.decode("latin-1"))
        places = ((name, None), (name, PORTS["http"] if port is None else port))
        if not any(place in self.hosts for place in places):
            raise HttpRefusal(421, "misdirected", "Host: none that is served here")
        if len(self._spellings) < _SPELLINGS_MAX:
            self._spellings.add(host)

    def check_origin(self, origin: bytes, fetch_site: bytes) -> bytes | None:
        """The origin of the page that sent a request, None if none did; raises HttpRefusal unless
        it may.

        ``fetch_site`` is the field ``Sec-Fetch-Site``: browsers leave ``Origin`` out of some
        requests to other sites.
        """
        if origin:
            if ANY in self._origins or _origin_of(origin.decode("latin-1")) in self._origins:
                return origin
            raise HttpRefusal(403, "forbidden", "Origin: pages of this one may not call")
        if fetch_site not in (b"", b"none", b"same-origin") and ANY not in self._origins:
            raise HttpRefusal(403, "forbidden", "Sec-Fetch-Site: other sites may not call")
        return None

    def preflight_response(self, origin: bytes, date: bytes, connection: int) -> bytes:
        """The whole response to a page of ``origin`` that asks what it may send."""
        fields = (
            ("date", date[6:-2].decode()),
            ("access-control-allow-methods", self.methods),
            (
                "access-control-allow-headers",
                "content-type, x-dragoman-timeout-ms, x-dragoman-group, x-dragoman-version",
            ),
            ("access-control-max-age", str(PREFLIGHT_S)),
            *cors_fields(origin),
        )
        return encode_response(204, fields=fields, connection=connection)


OPEN: Final = Access()
