"""The addresses of this machine, as its interfaces have them.

Used by ``zookeeper_watch``: an override whose host has no port is about the consumers there. The
invariant: what cannot be found out is left out; nothing is resolved, and nothing asks the network.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

# ioctl(2): the IPv4 address of an interface, in a struct ifreq.
_SIOCGIFADDR: Final = 0x8915
_IPV6: Final = Path("/proc/net/if_inet6")


def own_hosts() -> frozenset[str]:
    """Every address of every interface, IPv4 and IPv6, and ``localhost``."""
    found = {"localhost"}
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                reply = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
                found.add(socket.inet_ntoa(reply[20:24]))
    with suppress(OSError):
        for line in _IPV6.read_text().splitlines():
            found.add(str(ipaddress.IPv6Address(int(line.split()[0], 16))))
    return frozenset(found)
