"""``open_store`` and ``open_async``: a store by where it is.

A path is a ``QueueStore``, a URL one that is elsewhere. The invariant: what the caller gets keeps
``queue.api.interface``, whatever it is.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any, TypedDict, Unpack, get_type_hints, overload
from urllib.parse import parse_qs, unquote

from dragoman import rpc
from dragoman.broker.blocking import BlockingStore
from dragoman.broker.client import ServedStore
from dragoman.broker.messages import DEFAULT_NAME, REPLY_BYTES_MAX
from dragoman.errors import UsageError
from dragoman.opening import opening
from dragoman.queue import AsyncQueueStore, MessageStore, QueueStore
from dragoman.queue.api.interface import AsyncReadable
from dragoman.queue.disk.files import Files
from dragoman.rpc.address import Address
from dragoman.rpc.limits import MIB

TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_MS = 5000
# A reply of 16 MiB has one more message, that may be as large, and what goes around them.
BODY_BYTES_MAX = 2 * REPLY_BYTES_MAX + 4 * MIB
REGISTRIES = ("etcd", "static", "memory")
EXPECTED = (
    "expected a path, dragoman://host:port, unix:/path, nats://host:port/prefix or"
    " etcd://host:port?store=name (static:// or memory:// likewise)"
)


class DirectoryOptions(TypedDict, total=False):
    """Those of ``QueueStore``."""

    durability: str
    memory_bytes: int
    cache_bytes: int
    segment_bytes: int
    journal_bytes: int
    expected_queues: int
    retention_s: float | None
    retention_bytes: int | None
    retention_messages: int | None
    compact_below: float | None
    compaction_bytes_s: int
    compaction_memory_bytes: int
    read_only: bool
    create: bool
    files: Files | None


class StoreOptions(DirectoryOptions, total=False):
    """What ``open_store`` takes, of whatever store; which takes what, it says when it opens."""

    timeout_ms: int
    connect_timeout_ms: int
    bytes_max: int
    tls: Any
    server_hostname: str | None
    heartbeat_ms: int
    # Of nats.connect.
    name: str
    token: str
    user_credentials: Any
    nkeys_seed: str


@overload
def open_store(where: str | Address, **options: Unpack[StoreOptions]) -> MessageStore: ...
@overload
def open_store(where: os.PathLike[str], **options: Unpack[DirectoryOptions]) -> QueueStore: ...
def open_store(
    where: str | Address | os.PathLike[str], **options: Unpack[StoreOptions]
) -> MessageStore:
    """Open the store at ``where``, for threads; close it when done, or use it in ``with``.

    | where | which store | options |
    | --- | --- | --- |
    | a path | a ``QueueStore`` of this process | those of ``QueueStore`` |
    | ``dragoman://host:port``, ``tcp://host:port``, ``unix:/path`` | a served one | see below |
    | an ``rpc.Address``, as a server has it | the one that is served there | see below |
    | ``etcd://host:port?store=name`` | the served one that is registered so | see below |
    | ``nats://host:port[,host:port...]/prefix`` | one on NATS JetStream | ``broker.nats`` |

    Options of served stores: ``timeout_ms`` (30,000; unlike ``rpc.connect``, since a call is tried
    again until then): how long a call may take; ``connect_timeout_ms`` (5,000); ``bytes_max``
    (256 MiB): puts that wait, more get OverloadError; ``tls``, ``server_hostname`` and
    ``heartbeat_ms`` as of ``rpc.connect``.

    Raises UsageError for what is none of these and for wrong options, ConnectError, RegistryError
    or UnavailableError when nobody answers, and what ``QueueStore`` raises.
    """
    text = _local(where)
    if text is None:
        return _open_local(where, {**options})
    return BlockingStore(lambda: open_async(text, **options))


@opening
async def open_async(
    where: str | Address | os.PathLike[str], **options: Unpack[StoreOptions]
) -> AsyncReadable:
    """``open_store`` for asyncio; use it in ``async with``, or ``await store.close()``."""
    text = _local(where)
    if text is None:
        return AsyncQueueStore(await asyncio.to_thread(_open_local, where, {**options}))
    scheme, _, rest = text.partition(":")
    if scheme == "nats":
        return await _open_nats(text, **options)
    if scheme in REGISTRIES:
        return await _open_registered(text, **options)
    if scheme == "unix":
        return await _open_served(text, **options)
    return await _open_served(rest.removeprefix("//").rstrip("/"), **options)


def _show_options(function: Callable[..., Any]) -> None:
    """Have ``inspect.signature`` and completion name the options, as type checkers do."""
    known = inspect.signature(function, eval_str=True)
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=kind)
        for name, kind in get_type_hints(StoreOptions).items()
    ]
    where = known.parameters["where"]
    signature = known.replace(parameters=[where, *named])
    function.__signature__ = signature  # type: ignore[attr-defined]


_show_options(open_store)
_show_options(open_async)


def _open_local(where: str | Address | os.PathLike[str], options: dict[str, Any]) -> QueueStore:
    assert not isinstance(where, Address)
    known = inspect.signature(QueueStore).parameters
    for key in options:
        if key not in known:
            raise UsageError(f"a QueueStore has no option {key!r}")
    return QueueStore(where, **options)


def _local(where: str | Address | os.PathLike[str]) -> str | None:
    """The URL, or None for a path; raises UsageError for a URL of which nothing is known."""
    if isinstance(where, Address):
        return str(where) if where.path else f"tcp://{where}"
    if not isinstance(where, str | os.PathLike):
        raise UsageError(f"where the store is: {EXPECTED}, not {type(where).__name__}")
    if not isinstance(where, str):
        return None
    if not where:
        raise UsageError(f"where the store is: {EXPECTED}")
    scheme, separator, rest = where.partition("://")
    if where.startswith("unix:"):
        return where
    if not separator or "/" in scheme or "." in scheme:
        return None
    if scheme not in ("dragoman", "tcp", "nats", *REGISTRIES) or not rest:
        raise UsageError(f"{_redacted(where)!r}: {EXPECTED}")
    return where


async def _open_served(
    address: str,
    *,
    timeout_ms: int = TIMEOUT_MS,
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
    bytes_max: int = 256 * MIB,
    **options: Any,
) -> ServedStore:
    _check(options, timeout_ms, bytes_max)
    client = await rpc.connect(
        address,
        connect_timeout_ms=connect_timeout_ms,
        body_bytes_max=BODY_BYTES_MAX,
        **options,
    )
    store = ServedStore(client, address, timeout_ms=timeout_ms, bytes_max=bytes_max)
    try:
        await store.open()
    except BaseException:
        await client.close(drain_ms=0)
        raise
    store._opened = True
    return store


async def _open_registered(
    url: str,
    *,
    timeout_ms: int = TIMEOUT_MS,
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
    bytes_max: int = 256 * MIB,
    **options: Any,
) -> ServedStore:
    # Late, since it takes a while and few need it: registries speak HTTP.
    from dragoman import cluster

    _check(options, timeout_ms, bytes_max)
    registry, name = registered(url)
    pool = await cluster.connect(
        name,
        registry=registry,
        connect_timeout_ms=connect_timeout_ms,
        body_bytes_max=BODY_BYTES_MAX,
        **options,
    )
    store = ServedStore(
        pool, f"{_redacted(registry)}?store={name}", timeout_ms=timeout_ms, bytes_max=bytes_max
    )
    try:
        await store.open()
    except BaseException:
        await pool.close(drain_ms=0)
        raise
    store._opened = True
    return store


async def _open_nats(
    url: str,
    *,
    timeout_ms: int = TIMEOUT_MS,
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
    bytes_max: int = 256 * MIB,
    **options: Any,
) -> AsyncReadable:
    from dragoman.broker.nats_opening import open_nats

    _check_numbers(timeout_ms, bytes_max)
    return await open_nats(
        url,
        timeout_ms=timeout_ms,
        connect_timeout_ms=connect_timeout_ms,
        bytes_max=bytes_max,
        **options,
    )


def registered(url: str) -> tuple[str, str]:
    """The registry's URL and the store's name of ``etcd://...?store=name``; raises UsageError."""
    from dragoman.registry.url import check_registry_url

    registry, mark, query = url.rpartition("?store=")
    if not mark:
        registry, query = url, DEFAULT_NAME
    check_registry_url(registry)
    name = unquote(query)
    if not name or parse_qs(f"store={query}", keep_blank_values=True).get("store") != [name]:
        raise UsageError(f"{_redacted(url)!r}: expected ?store=name at the end")
    return registry, name


def _redacted(url: str) -> str:
    from dragoman.registry.url import redact_url

    return redact_url(url)


def _check(options: dict[str, Any], timeout_ms: Any, bytes_max: Any) -> None:
    for key in options:
        if key not in ("tls", "server_hostname", "heartbeat_ms"):
            raise UsageError(f"a served store has no option {key!r}")
    _check_numbers(timeout_ms, bytes_max)


def _check_numbers(timeout_ms: Any, bytes_max: Any) -> None:
    for name, value in (("timeout_ms", timeout_ms), ("bytes_max", bytes_max)):
        if type(value) is not int or not 1 <= value < 1 << 32:
            raise UsageError(f"{name} is a whole number from 1 to 4294967295, not {value!r}")
