"""What type checkers are to see of stores: checked by ``mypy --strict``, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from dragoman import broker
from dragoman.queue import AsyncQueueStore, MessageStore, QueueStore


def stores() -> None:
    assert_type(broker.open_store("dragoman://a:1", timeout_ms=5, bytes_max=7), MessageStore)
    assert_type(broker.open_store(Path("x"), durability="always"), QueueStore)
    broker.open_store("x", durabilty="always")  # type: ignore[call-overload]
    broker.open_store("dragoman://a:1", timeout="5")  # type: ignore[call-overload]
    broker.open_store(Path("x"), timeout_ms=5)  # type: ignore[call-overload]
    QueueStore("x", memory=5)  # type: ignore[call-arg]
    AsyncQueueStore(QueueStore("x"), thread=5)  # type: ignore[call-arg]


async def served(store: QueueStore) -> None:
    await broker.open_async("nats://a:1/p", timeout_ms=5)
    await broker.open_async("nats://a:1/p", timeoutms=5)  # type: ignore[call-arg]
    server = await broker.serve(store, "127.0.0.1:0", registry="etcd://a:1", weight=3)
    assert_type(server, broker.BrokerServer)
    await broker.serve(store, "127.0.0.1:0", limits=3)  # type: ignore[call-arg]
    await broker.serve(store, "127.0.0.1:0", limit="3")  # type: ignore[arg-type]
