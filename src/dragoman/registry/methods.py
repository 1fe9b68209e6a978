"""The methods of a service as its providers publish them, with their Java types.

Told by ``Registry.publish`` and asked for by ``Registry.metadata``.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider publishes of a method: its name and its types, as Java writes them
    (``int``, ``java.lang.String``, ``java.util.List<com.example.User>``, ``byte[]``).
    """

    name: str
    parameter_types: tuple[str, ...] = ()
    return_type: str = ""
    # Of the classes of beans in its parameters: those fields whose values Java does not make of
    # the text that JSON has for them, and what leads to such, with their types.
    fields: dict[str, dict[str, str]] = {}


def fields_of(methods: Iterable[Method], name: str) -> dict[str, dict[str, str]]:
    """The ``fields`` of the methods called ``name``."""
    found: dict[str, dict[str, str]] = {}
    for each in methods:
        if each.name == name and each.fields:
            found |= each.fields
    return found


def types_of(methods: Iterable[Method], name: str, count: int) -> list[str] | None:
    """The types of the one method called ``name`` with ``count`` parameters; None if there is none,
    or several."""
    fitting = {
        each.parameter_types
        for each in methods
        if each.name == name and len(each.parameter_types) == count
    }
    return list(fitting.pop()) if len(fitting) == 1 else None
