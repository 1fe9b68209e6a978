"""A cluster of three NATS servers, each killed in turn while several programs put."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from dragoman import broker
from dragoman.broker.nats_store import NatsStore
from dragoman.errors import (
    DragomanError,
    LinkLostError,
    StorageError,
)
from dragoman.queue import MessageStore
from tests.broker.nats_servers import nats_cluster, needs_server, url_of


@needs_server
def test_one_of_three_servers_is_killed_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Each in turn, the leader among them, while four programs put to the same queues."""
    with nats_cluster(tmp_path) as servers:
        url = url_of(servers, "mesh", 3)
        store = _open_soon(url, timeout_ms=60_000)
        acknowledged: dict[tuple[bytes, int], bytes] = {}
        unknown: set[bytes] = set()
        failures: list[BaseException] = []
        stop = threading.Event()
        lock = threading.Lock()

        def put_on(writer: int) -> None:
            number = 0
            try:
                with broker.open_store(url, timeout_ms=60_000) as mine:
                    while not stop.is_set():
                        name = b"q%d" % (number % 3)
                        messages = [b"%d:%d" % (writer, number + i) for i in range(3)]
                        number += 3
                        try:
                            offsets = mine.put_many(name, messages)
                        except (LinkLostError, StorageError):
                            unknown.update(messages)
                            continue
                        with lock:
                            for offset, message in zip(offsets, messages, strict=True):
                                assert (name, offset) not in acknowledged, "one offset twice"
                                acknowledged[name, offset] = message
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=put_on, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            for server in servers:
                _grown(acknowledged, lock, 60)
                server.kill()
                _grown(acknowledged, lock, 60)
                server.start()
                if server is not servers[-1]:  # nothing is killed after it
                    _settled(store)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        total = 0
        for name in (b"q0", b"q1", b"q2"):
            length = store.length(name)
            messages = store.get(name, 0, length)
            assert len(messages) == length
            total += length
            assert len(set(messages)) == length, "stored twice"
            for offset, message in enumerate(messages):
                known = acknowledged.pop((name, offset), None)
                assert known == message or (known is None and message in unknown)
        assert acknowledged == {}
        assert total > 300
        store.close()


def _open_soon(url: str, **options: Any) -> MessageStore:
    """A cluster that has just started has no leader yet."""
    until = time.monotonic() + 60
    while True:
        try:
            return broker.open_store(url, **options)
        except DragomanError:
            assert time.monotonic() < until
            time.sleep(0.2)


def _grown(acknowledged: dict[Any, Any], lock: threading.Lock, by: int) -> None:
    until = time.monotonic() + 60
    with lock:
        wanted = len(acknowledged) + by
    while True:
        with lock:
            if len(acknowledged) >= wanted:
                return
        assert time.monotonic() < until, "nothing is acknowledged any more"
        time.sleep(0.02)


def _settled(store: MessageStore) -> None:
    """All three replicas are there again and current."""
    inner: NatsStore = store._store  # type: ignore[attr-defined]
    until = time.monotonic() + 60
    while True:
        states = []
        for stream in ("mesh", "mesh-meta"):
            info = store._wait(inner._streams.info(stream))  # type: ignore[attr-defined]
            cluster = (info or {}).get("cluster") or {}
            replicas = cluster.get("replicas") or []
            states.append(
                bool(cluster.get("leader"))
                and len(replicas) == 2
                and all(r.get("current") and not r.get("offline") for r in replicas)
            )
        if all(states):
            return
        assert time.monotonic() < until, "the cluster does not come together"
        time.sleep(0.1)
