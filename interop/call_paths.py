"""The paths to a Java provider that the matrix tries: by the agents, by the SDK, by both.

A ``CallPath`` is opened over providers at ports; its ``call`` may be used by many threads. The
invariant: whatever a call ends with becomes an ``Outcome``; nothing is swallowed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from dragoman import dubbo
from interop import python_values
from interop.descriptors import java_names
from interop.mesh import TYPES, Mesh, MeshCaller, mesh
from interop.values import CannotSay, Described, differs, parse, to_json


@dataclass(frozen=True)
class Outcome:
    """How a call ended: with a value, a throwable of the service, or an error of the path."""

    value: Any = None
    throwable: str = ""
    error: str = ""

    @property
    def returned(self) -> bool:
        """Whether there is a value."""
        return not self.throwable and not self.error


@dataclass(frozen=True)
class Endpoint:
    """A Java provider that runs, and how many calls are to be on it at once."""

    port: int
    limit: int = 200


class CallPath(Protocol):
    """Calls of ``org.dragoman.interop.Types``."""

    def call(
        self,
        method: str,
        descriptor: str,
        arguments: list[Described],
        *,
        types: list[str] | None = None,
        group: str = "",
        version: str = "",
        timeout_ms: int = 10000,
    ) -> Outcome:
        """One call; ``types`` are the parameters' with their generics. ``CannotSay`` when this path
        has no words for an argument.
        """

    def differs(self, want: Described, got: Any) -> str | None:
        """How a value differs from what is described, or None."""


class Agents:
    """Over HTTP, by a consumer's and a provider's agent."""

    def __init__(self, mesh: Mesh, port: int) -> None:
        self.mesh = mesh
        self.port = port
        self._own = threading.local()
        self._callers: list[MeshCaller] = []

    def call(
        self,
        method: str,
        descriptor: str,
        arguments: list[Described],
        *,
        types: list[str] | None = None,
        group: str = "",
        version: str = "",
        timeout_ms: int = 10000,
    ) -> Outcome:
        names = types or java_names(descriptor)
        texts = [to_json(each, name) for each, name in zip(arguments, names, strict=True)]
        service = {"group": group, "version": version} if group else {}
        caller = getattr(self._own, "caller", None)
        if caller is None:
            caller = self._own.caller = MeshCaller(self.port)
            self._callers.append(caller)
        answer = caller.call(method, texts, names, timeout_ms=timeout_ms, **service)
        if answer.status == 200:
            return Outcome(value=parse(answer.body))
        text = answer.body.decode().rstrip("\n")
        if answer.error == "remote":
            return Outcome(throwable=text)
        return Outcome(error=f"{answer.error}: {text}")

    def differs(self, want: Described, got: Any) -> str | None:
        return differs(want, got)

    def close(self) -> None:
        """Close the connections of all threads."""
        for caller in self._callers:
            caller.close()


@contextmanager
def agents(endpoints: list[Endpoint], serialization: str, groups: bool = False) -> Iterator[Agents]:
    """The agents over these providers; ``groups`` serves the two other services too."""
    with mesh() as made:
        for endpoint in endpoints:
            own = ["--serialization", serialization, "--limit", str(endpoint.limit)]
            made.provider_agent(endpoint.port, *own)
            if groups:
                blue = ["--group", "blue", "--version", "1.0.0"]
                made.provider_agent(endpoint.port, *own, *blue)
                green = ["--group", "green", "--version", "2.0.0"]
                made.provider_agent(endpoint.port, *own, *green)
        _, port = made.consumer_agent()
        made.wait_endpoints(port, len(endpoints) * (3 if groups else 1))
        path = Agents(made, port)
        try:
            yield path
        finally:
            path.close()


class Sdk:
    """The SDK's synchronous client, wherever it finds its providers."""

    def __init__(self, client: dubbo.SyncClient, serialization: str) -> None:
        self.client = client
        self._json = serialization == "fastjson"
        self._declared = serialization == "fastjson2"
        self._services: dict[tuple[str, str], dubbo.Reference] = {}

    def _service(self, group: str, version: str) -> dubbo.Reference:
        found = self._services.get((group, version))
        if found is None:
            found = self.client.service(TYPES, group=group, version=version)
            self._services[group, version] = found
        return found

    def call(
        self,
        method: str,
        descriptor: str,
        arguments: list[Described],
        *,
        types: list[str] | None = None,
        group: str = "",
        version: str = "",
        timeout_ms: int = 10000,
    ) -> Outcome:
        if self._json and '"ref"' in json.dumps(arguments):
            raise CannotSay("JSON has no references")
        typed = "Ljava/lang/Object;" in descriptor
        values = [python_values.to_python(each, typed=typed) for each in arguments]
        calling = self._service(group, version).method(method, descriptor)
        try:
            return Outcome(value=calling(*values, timeout_ms=timeout_ms))
        except dubbo.JavaError as error:
            return Outcome(throwable=f"{error.java_class}: {error}")
        except dubbo.DeadlineError as error:
            return Outcome(error=f"deadline: {error}")
        except dubbo.DragomanError as error:
            return Outcome(error=f"{type(error).__name__}: {error}")

    def differs(self, want: Described, got: Any) -> str | None:
        # Undeclared, what came in JSON is what JSON says of it: a Date is a number.
        if self._json:
            return differs(want, got)
        return python_values.differs(want, got, declared=self._declared)


@contextmanager
def sdk(endpoints: list[Endpoint], serialization: str, groups: bool = False) -> Iterator[Sdk]:
    """The SDK, which speaks Dubbo to the providers itself."""
    listed = ",".join(
        f"127.0.0.1:{each.port}?limit={each.limit}&serialization={serialization}"
        for each in endpoints
    )
    with dubbo.connect_sync(f"dubbo://{listed}") as client:
        client.ready(client.service(TYPES), timeout_ms=20000, providers_min=len(endpoints))
        yield Sdk(client, serialization)


@contextmanager
def sdk_by_agents(
    endpoints: list[Endpoint], serialization: str, groups: bool = False
) -> Iterator[Sdk]:
    """The SDK, which finds the providers' agents in etcd."""
    with mesh() as made:
        for endpoint in endpoints:
            own = ["--serialization", serialization, "--limit", str(endpoint.limit)]
            made.provider_agent(endpoint.port, *own)
        with dubbo.connect_sync(made.registry) as client:
            client.ready(client.service(TYPES), timeout_ms=20000, providers_min=len(endpoints))
            yield Sdk(client, serialization)
