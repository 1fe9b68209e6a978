"""Names of services and addresses of endpoints, as a registry has them: checked, and shown.

Everything in this package that reads or writes an entry uses these. The invariant: what has been
checked can stand in a key, and what a message shows of a registry is one line.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from dragoman.errors import UsageError
from dragoman.options import shown as quoted
from dragoman.options import text

INTERFACE_BYTES_MAX: Final = 512
# As much of a name or an error as a message shows.
SHOWN_MAX: Final = 300
# What to watch for all interfaces at once; no service can be called so.
EVERY: Final = "*"

_INTERFACE = re.compile(r"[^\s/\x00-\x1f\x7f?#]+")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.-]+)?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


def shown(text: str) -> str:
    """What stands in a registry, for a message of one line: anybody may have written it."""
    if len(text) > SHOWN_MAX:
        text = f"{text[:SHOWN_MAX]}..."
    return text if text.isprintable() else ascii(text)[1:-1]


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
    if not (colon and well_formed and is_host(host) and _PORT.fullmatch(port)):
        raise UsageError(f"address {shown(text)!r}: expected host:port")
    if int(port) > 65535:
        raise UsageError(f"address {shown(text)!r}: expected a port from 1 to 65535")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """``host:port``, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_host(host: str) -> bool:
    """Whether ``host`` is a host name or an IP address, which has no brackets here."""
    if ":" not in host:
        return bool(_HOST.fullmatch(host))
    if not _IPV6.fullmatch(host):
        return False
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
