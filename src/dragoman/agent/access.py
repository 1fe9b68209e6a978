"""Who may ask the consumer agent, and by which methods of HTTP.

A browser lets any page send simple requests to any port of its user's machine, and a name that an
attacker owns may resolve to it (DNS rebinding). So requests that a page sends are refused unless
its origin is allowed, and ``Host`` can be restricted. ``agent.ingress`` asks for each request that
has such fields; the rules are the user's options. The invariant: what is not allowed never becomes
a call.
"""

from __future__ import annotations

import re
from typing import Final

from dragoman.agent.contract import HttpRefusal, cors_fields
from dragoman.errors import UsageError
from dragoman.wire.http1 import encode_response

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-]+)(:[0-9]{1,5})?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://(\[[0-9a-f:.]+\]|[a-z0-9_.\-]+)(:[0-9]{1,5})?")
ANY: Final = "*"
# How long a browser may remember what a preflight said, in seconds.
PREFLIGHT_S: Final = 600


def check_host(text: str) -> None:
    """Raise UsageError unless ``text`` is ``host`` or ``host:port``."""
    if not _HOST.fullmatch(text):
        raise UsageError(f"{text!r}: expected host or host:port")


def check_origin(text: str) -> None:
    """Raise UsageError unless ``text`` is an origin (RFC 6454) as browsers send it, or ``*``."""
    if text != ANY and not _ORIGIN.fullmatch(text):
        raise UsageError(f"{text!r}: expected an origin such as https://app.example.com, or *")


class Access:
    """``hosts`` that requests may be for, with or without a port (none: any), ``origins`` whose
    pages may call (none, or ``*`` for all), and whether ``get`` calls too."""

    def __init__(
        self, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (), get: bool = False
    ) -> None:
        self.hosts = frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.encode() for origin in origins)
        self.get = get
        self.methods = "GET, POST" if get else "POST"
        self.methods_expected = f"{'GET or POST' if get else 'POST'} was expected"

    def check_host(self, host: bytes) -> None:
        """Raise HttpRefusal unless requests may be for ``host``, which may name a port."""
        name = host.lower()
        if self.hosts and name not in self.hosts and _without_port(name) not in self.hosts:
            raise HttpRefusal(421, "misdirected", "Host: none that is served here")

    def check_origin(self, origin: bytes, fetch_site: bytes) -> bytes | None:
        """The origin of the page that sent a request, None if none did; raises HttpRefusal unless
        it may.

        ``fetch_site`` is the field ``Sec-Fetch-Site``: browsers leave ``Origin`` out of some
        requests to other sites.
        """
        if origin:
            if origin in self._origins or ANY.encode() in self._origins:
                return origin
            raise HttpRefusal(403, "forbidden", "Origin: pages of this one may not call")
        if fetch_site not in (b"", b"none", b"same-origin") and ANY.encode() not in self._origins:
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


def _without_port(host: bytes) -> bytes:
    head, colon, port = host.rpartition(b":")
    return head if colon and port.isdigit() and not head.endswith(b":") else host


OPEN: Final = Access()
