"""Who serves what: etcd, static, in-memory.

``open_registry(url)`` gives the registry that a URL names; everything else is in ``base``.
"""

from dragoman.registry.base import (
    Handle,
    Registration,
    Registry,
    RegistryStatistics,
    Watch,
    format_address,
    parse_address,
)
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
