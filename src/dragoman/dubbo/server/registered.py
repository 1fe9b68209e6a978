"""What the registry is told of the services of a server: where they are, and their methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dragoman.dubbo.server.binding import BoundService
from dragoman.dubbo.types.declaration import Declaration
from dragoman.errors import UsageError
from dragoman.registry import Registration
from dragoman.registry.methods import Method
from dragoman.registry.registration import METHODS_MAX
from dragoman.rpc.address import Address
from dragoman.wire.java.descriptor import java_name

PROTOCOL: Final = "dubbo"
SERIALIZATION: Final = "hessian2"
APPLICATION: Final = "dragoman"


def registrations(
    services: Sequence[BoundService],
    registered: Address,
    port: int,
    limit: int,
    weight: int,
    zone: str,
) -> list[Registration]:
    """What the registry is told; raises UsageError for what it cannot be."""
    return [
        Registration(
            interface=service.interface,
            host=registered.host or "127.0.0.1",
            port=registered.port or port,
            weight=weight,
            limit=limit,
            protocol=PROTOCOL,
            serialization=SERIALIZATION,
            group=service.group,
            version=service.version,
            zone=zone,
            methods=tuple(service.methods[:METHODS_MAX]),
            application=APPLICATION,
        )
        for service in services
    ]


def published_methods(declaration: Declaration) -> list[Method]:
    """What callers may know of a service's methods: their types as Java has them."""
    return [
        Method(
            name=method.name,
            parameter_types=tuple(java_name(each.descriptor) for each in method.parameters[:count]),
            return_type=_result_name(method.result.descriptor),
        )
        for method in declaration.methods
        for count in range(method.least, len(method.parameters) + 1)
    ]


def _result_name(descriptor: str) -> str:
    return "void" if descriptor == "V" else java_name(descriptor)


def check_keys(services: Sequence[BoundService]) -> None:
    """A registry of ours has one entry for an interface and an address; raises UsageError."""
    interfaces = [service.interface for service in services]
    for interface in interfaces:
        if interfaces.count(interface) > 1:
            raise UsageError(
                f"serve: {interface} twice on one port cannot be registered in this registry;"
                " serve each group and version on a port of its own"
            )
