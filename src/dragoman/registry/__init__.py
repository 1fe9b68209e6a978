"""Who serves what: etcd, ZooKeeper, Nacos, static, in-memory.

``open_registry(url)`` gives the registry that a URL names; what every registry is stands in
``base``, what it lists in ``registration``.
"""

from dragoman.registry.base import Handle, Registry, RegistryStatistics, Watch
from dragoman.registry.names import format_address, parse_address
from dragoman.registry.registration import Registration
from dragoman.registry.url import check_registry_url, open_registry

__all__ = [
    "Handle",
    "Registration",
    "Registry",
    "RegistryStatistics",
    "Watch",
    "check_registry_url",
    "format_address",
    "open_registry",
    "parse_address",
]
