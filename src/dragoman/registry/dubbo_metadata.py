"""What providers of Dubbo publish of their methods, and how long it is kept.

A provider of Dubbo 2.7 or 3 puts a JSON description of each service where its metadata report is:
``{"canonicalName": ..., "methods": [{"name": ..., "parameterTypes": [...], "returnType": ...}]}``.
Used by ``zookeeper``. The invariant: what is read is bounded, and no request waits
twice for the same answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Final

import msgspec

from dragoman.errors import ProtocolError
from dragoman.registry.base import METHODS_MAX, Method
from dragoman.wire.misfit import UNREADABLE, json_misfit

METADATA_BYTES_MAX: Final = 4 << 20
# Interfaces asked for; the longest unused is forgotten.
KEPT_MAX: Final = 4096
# Nothing published is asked for again sooner.
MISSED_S: Final = 10.0

_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class _Method(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    parameterTypes: Annotated[list[_Text], msgspec.Meta(max_length=255)] = []
    returnType: _Text = ""


class _Service(msgspec.Struct):
    canonicalName: str = ""
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
    return tuple(
        Method(
            name=each.name,
            parameter_types=tuple(each.parameterTypes),
            return_type=each.returnType,
        )
        for each in service.methods
    )


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
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        found = await asyncio.shield(task)
        until_s = loop.time() + (self._keep_s if found else min(MISSED_S, self._keep_s))
        self._kept[key] = (until_s, found)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return found


async def _run(read: Callable[[], Awaitable[tuple[Method, ...]]]) -> tuple[Method, ...]:
    return await read()
