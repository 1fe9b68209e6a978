"""The ways to a Java provider that the matrix tries: by the agents, by the SDK.

A ``Way`` is opened over providers at ports; its ``call`` may be used by many threads. The
invariant: whatever a call ends with becomes an ``Outcome``; nothing is swallowed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from interop.descriptors import java_names
from interop.mesh import Caller, Mesh, mesh
from interop.values import Described, differs, parse, to_json


@dataclass(frozen=True)
class Outcome:
    """How a call ended: with a value, a throwable of the service, or an error of the way."""

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


class Way(Protocol):
    """Calls of ``org.dragoman.interop.Types``."""

    mesh: Mesh

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
        """One call; ``types`` are the parameters' with their generics. ``CannotSay`` when this way
        has no words for an argument.
        """

    def differs(self, want: Described, got: Any) -> str | None:
        """How a value differs from what is described, or None."""


class Agents:
    """Over HTTP, by a consumer's and a provider's agent."""

    def __init__(self, mesh: Mesh, port: int) -> None:
        self.mesh = mesh
        self._port = port
        self._own = threading.local()

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
            caller = self._own.caller = Caller(self._port)
        answer = caller.call(method, texts, names, timeout_ms=timeout_ms, **service)
        if answer.status == 200:
            return Outcome(value=parse(answer.body))
        text = answer.body.decode().rstrip("\n")
        if answer.error == "remote":
            return Outcome(throwable=text)
        return Outcome(error=f"{answer.error}: {text}")

    def differs(self, want: Described, got: Any) -> str | None:
        return differs(want, got)


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
        yield Agents(made, port)
