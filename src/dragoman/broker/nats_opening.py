"""``open_nats``: a store on NATS JetStream by its URL.

``opening`` calls it for ``nats://``. The invariants: the streams of an opened store are ones of
queues, and such that two writers never get one offset; an opening that fails leaves no connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dragoman.broker.nats_names import Location, meta_of, parse
from dragoman.broker.nats_store import NatsStore
from dragoman.broker.nats_stream import Streams
from dragoman.errors import ConnectError, DeadlineError, DragomanError, UsageError
from dragoman.reasons import reason

if TYPE_CHECKING:
    from dragoman.broker.nats_client import NatsClient

# For how long JetStream itself drops what is published twice.
DUPLICATES_S = 120
# What a stream that was made or changed by others must have at the least.
DUPLICATES_LEAST_S = 30


async def open_nats(
    url: str,
    *,
    timeout_ms: int,
    connect_timeout_ms: int,
    bytes_max: int,
    tls: Any = None,
    **options: Any,
) -> NatsStore:
    """Open the store at a ``nats://`` URL; what ``broker.open_async`` does for one. Further
    ``options`` are those of ``nats.connect``."""
    location = parse(url)
    servers = ",".join(server.removeprefix("nats://") for server in location.servers)
    where = f"nats://{servers}/{location.prefix}"
    client = await _connected(location, where, connect_timeout_ms, {"tls": tls, **options})
    streams = Streams(client, where, timeout_ms)
    try:
        await _make_streams(streams, location, where)
    except DeadlineError as error:
        await client.leave()
        raise ConnectError(f"{error}: is JetStream enabled there, and has it a majority?") from None
    except (DragomanError, asyncio.CancelledError):
        await client.leave()
        raise
    store = NatsStore(client, streams, location.prefix, where, bytes_max=bytes_max)
    store._opened = True
    return store


async def _connected(
    location: Location, where: str, connect_timeout_ms: int, options: dict[str, Any]
) -> NatsClient:
    try:
        import nats.errors

        from dragoman.broker.nats_client import NatsClient
    except ImportError:
        raise UsageError(
            "nats:// needs the package nats-py: pip install 'dragoman[nats]'"
        ) from None
    wrong: list[Exception] = []

    async def note(error: Exception) -> None:
        # What goes wrong later is in the errors of those who wait.
        wrong[:] = [error]

    client = NatsClient()
    try:
        async with asyncio.timeout(connect_timeout_ms / 1000):
            await client.connect(
                location.servers,
                user=location.user,
                password=location.password,
                error_cb=note,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]
                connect_timeout=2,
                **options,
            )
    except TypeError as error:
        raise UsageError(f"a store on NATS: {error}") from None
    except asyncio.CancelledError:
        client.hang_up()
        raise
    except (nats.errors.Error, OSError, TimeoutError) as error:
        client.hang_up()
        within = f"no connection within {connect_timeout_ms} ms"
        why = str(error) or (f"{within}: {reason(wrong[0])}" if wrong else within)
        raise ConnectError(f"{where}: {why}") from None
    return client


async def _make_streams(streams: Streams, location: Location, where: str) -> None:
    """Make the streams unless they are there. Raises UsageError if they are others'."""
    prefix = location.prefix
    common = {
        "retention": "limits",
        "storage": location.storage or "file",
        "num_replicas": location.replicas or 1,
        "duplicate_window": DUPLICATES_S * 1_000_000_000,
        "allow_direct": True,
    }
    queues = {**common, "name": prefix, "subjects": [f"{prefix}.q.*"]}
    made = await streams.make(queues)
    meta = meta_of(prefix)
    await streams.make(
        {**common, "name": meta, "subjects": [f"{meta}.>"], "max_msgs_per_subject": 1}
    )
    _check_stream(made["config"], location, where)


def _check_stream(config: dict[str, Any], location: Location, where: str) -> None:
    prefix = location.prefix
    if config.get("subjects") != [f"{prefix}.q.*"]:
        raise UsageError(f"{where}: stream {prefix} is not one of queues")
    if config.get("duplicate_window", 0) < DUPLICATES_LEAST_S * 1_000_000_000:
        raise UsageError(
            f"{where}: the stream's duplicate window is under {DUPLICATES_LEAST_S} s:"
            " two writers could get one offset"
        )
    for name, key, wanted in (
        ("replicas", "num_replicas", location.replicas),
        ("storage", "storage", location.storage),
    ):
        if wanted is not None and config.get(key) != wanted:
            raise UsageError(f"{where}: the stream has {name}={config.get(key)}, not {wanted}")
