"""What providers of Dubbo publish of their methods, and how long it is kept.

A provider of Dubbo 2.7 or 3 puts a JSON description of each service where its metadata report is:
``{"canonicalName": ..., "methods": [{"name": ..., "parameterTypes": [...], "returnType": ...}]}``.
Used by ``zookeeper``. The invariants: what is read is bounded, no request waits twice for the same
answer, and that nothing is published is never remembered: a provider may be about to.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Annotated, Final

import msgspec

from dragoman.errors import ProtocolError
from dragoman.registry.methods import Method
from dragoman.registry.registration import METHODS_MAX
from dragoman.wire.java.from_text import has_own_form
from dragoman.wire.misfit import UNREADABLE, json_misfit

METADATA_BYTES_MAX: Final = 4 << 20
# Interfaces asked for; the longest unused is forgotten.
KEPT_MAX: Final = 4096

TYPES_MAX: Final = 20_000
FIELDS_MAX: Final = 2_000
_NAME = re.compile(r"byte\[\]|[A-Za-z_$][\w$]*(?:\.[\w$]+)*", re.ASCII)

_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class _Method(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    parameterTypes: Annotated[list[_Text], msgspec.Meta(max_length=255)] = []
    returnType: _Text = ""


class _Property(msgspec.Struct):
    type: _Text = ""


class _Type(msgspec.Struct):
    type: _Text = ""
    # By name: the type (Dubbo 3), or an object that has it (2.7).
    properties: Annotated[dict[str, _Text | _Property], msgspec.Meta(max_length=FIELDS_MAX)] = {}


class _Service(msgspec.Struct):
    canonicalName: str = ""
    types: Annotated[list[_Type], msgspec.Meta(max_length=TYPES_MAX)] = []
    methods: Annotated[list[_Method], msgspec.Meta(max_length=METHODS_MAX)] = []


_decode = msgspec.json.Decoder(_Service).decode


def decode_methods(data: bytes, interface: str) -> tuple[Method, ...]:
    """The methods that a published description of ``interface`` lists; raises ProtocolError."""
    if len(data) > METADATA_BYTES_MAX:
        raise ProtocolError(
            f"metadata of {interface}: {len(data)} bytes, expected at most {METADATA_BYTES_MAX}"
        )
    try:
        service = _decode(data)
    except UNREADABLE:
        raise ProtocolError(f"metadata of {interface}: {json_misfit(data, _Service)}") from None
    classes = _telling(service.types)
    return tuple(
        Method(
            name=each.name,
            parameter_types=tuple(each.parameterTypes),
            return_type=each.returnType,
            fields=_reached(each.parameterTypes, classes),
        )
        for each in service.methods
    )


def _names(text: str) -> list[str]:
    """The classes that a type's name names, arrays of bytes among them."""
    return _NAME.findall(text)


def _telling(types: Iterable[_Type]) -> dict[str, dict[str, str]]:
    """Of the classes that are not the JDK's: the fields whose JSON only their types explain, and
    those that lead to such."""
    every: dict[str, dict[str, str]] = {}
    for each in types:
        if not each.type.startswith("java.") and _NAME.fullmatch(each.type):
            every[each.type] = {
                name: said if isinstance(said, str) else said.type
                for name, said in each.properties.items()
            }
    # Backwards, from what needs its type to what holds it.
    holders: dict[str, list[tuple[str, str]]] = {}
    told: dict[str, dict[str, str]] = {}
    left: list[str] = []
    for java_class, fields in every.items():
        for name, text in fields.items():
            for inner in _names(text):
                holders.setdefault(inner, []).append((java_class, name))
    left += [name for name in holders if has_own_form(name)]
    done = set(left)
    while left:
        for java_class, name in holders.get(left.pop(), ()):
            told.setdefault(java_class, {})[name] = every[java_class][name]
            if java_class not in done:
                done.add(java_class)
                left.append(java_class)
    return told


def _reached(types: Iterable[str], classes: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    left = [name for text in types for name in _names(text)] if classes else []
    while left:
        java_class = left.pop()
        if java_class in classes and java_class not in found:
            found[java_class] = classes[java_class]
            left += [name for text in classes[java_class].values() for name in _names(text)]
    return found


def encode_methods(interface: str, methods: Iterable[Method], parameters: dict[str, str]) -> bytes:
    """The description that a provider publishes; ``parameters`` are those of its URL."""
    described = [
        {
            "name": each.name,
            "parameterTypes": each.parameter_types,
            "returnType": each.return_type,
            "annotations": [],
            "parameters": [],
        }
        for each in methods
    ]
    return msgspec.json.encode(
        {
            "parameters": parameters,
            "canonicalName": interface,
            "codeSource": "",
            "methods": described,
            "types": [],
            "annotations": [],
        }
    )


class MetadataCache:
    """Answers kept for ``keep_s``; callers that ask together share one question."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._kept: OrderedDict[tuple[str, ...], tuple[float, tuple[Method, ...]]] = OrderedDict()
        self._asked: dict[tuple[str, ...], asyncio.Task[tuple[Method, ...]]] = {}

    async def get(
        self, key: tuple[str, ...], read: Callable[[], Awaitable[tuple[Method, ...]]]
    ) -> tuple[Method, ...]:
        """The answer for ``key``, from ``read`` unless it is kept. Raises what ``read`` does."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(key)
        if kept is not None and loop.time() < kept[0]:
            return kept[1]
        task = self._asked.get(key)
        if task is None:
            task = loop.create_task(_run(read))
            self._asked[key] = task
            task.add_done_callback(partial(self._answered, key))
        found = await asyncio.shield(task)
        if not found:
            self._kept.pop(key, None)
            return found
        self._kept[key] = (loop.time() + self._keep_s, found)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return found

    def _answered(self, key: tuple[str, ...], task: asyncio.Task[tuple[Method, ...]]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever asked may have left before


async def _run(read: Callable[[], Awaitable[tuple[Method, ...]]]) -> tuple[Method, ...]:
    return await read()
