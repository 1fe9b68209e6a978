"""Opening stores on JetStream: servers that are away, streams of others, queues moved there."""

from __future__ import annotations

import asyncio
import gc
import io
import socket
import time
from pathlib import Path

import pytest

from dragoman import broker
from dragoman.broker.exchange import export_queues, import_queues
from dragoman.broker.nats_store import NatsStore
from dragoman.errors import (
    ConnectError,
    DragomanError,
    LinkLostError,
    UsageError,
)
from dragoman.queue import QueueStore
from tests.broker.nats_servers import NatsServer, nats_server, needs_server, url_of
from tests.load_factor import load_factor


def test_a_server_that_says_nothing_is_left_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        with pytest.raises(ConnectError, match="no connection within 300 ms"):
            broker.open_store(
                f"nats://127.0.0.1:{listener.getsockname()[1]}/p", connect_timeout_ms=300
            )
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            assert connection.recv(1) == b""
    gc.collect()  # where what was left open would be told of


@needs_server
def test_a_stream_of_others_is_left_alone(own: NatsServer) -> None:
    async def main() -> None:
        async with await broker.open_async(url_of([own], "mine", 1)) as store:
            assert isinstance(store, NatsStore)
            await store._streams.make({"name": "theirs", "subjects": ["theirs.events.>"]})
            config = (await store._streams.info("mine") or {})["config"]
            short = {**config, "name": "mine", "duplicate_window": 1_000_000_000}
            await store._streams.api("STREAM.UPDATE.mine", short)
        with pytest.raises(UsageError, match="not one of queues"):
            await broker.open_async(url_of([own], "theirs", 1))
        with pytest.raises(UsageError, match="duplicate window"):
            await broker.open_async(url_of([own], "mine", 1))
        async with await broker.open_async(url_of([own], "others", 1)) as store:
            assert isinstance(store, NatsStore)
            await store._streams.api("STREAM.UPDATE.mine", config)
        with pytest.raises(UsageError, match="replicas=1, not 3"):
            await broker.open_async(url_of([own], "mine", 3))

    asyncio.run(main())


@needs_server
def test_servers_that_are_away_are_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"nats://127\.0\.0\.1:1/p"):
        broker.open_store("nats://127.0.0.1:1/p", connect_timeout_ms=300)
    with nats_server(tmp_path) as server:
        store = broker.open_store(url_of([server], "away", 1), timeout_ms=500)
        store.put("q", b"m")
        server.kill()
        for call in (lambda: store.put("q", b""), lambda: store.get("q", 0)):
            started = time.monotonic()
            with pytest.raises((LinkLostError, ConnectError, DragomanError)):
                call()
            assert time.monotonic() - started < 5 * load_factor()
        store.close()
        assert server.process is None
        server._command.remove("-js")
        server.start()
        with pytest.raises(DragomanError, match="JetStream"):
            broker.open_store(url_of([server], "away", 1), timeout_ms=500)


@needs_server
def test_queues_move_between_a_directory_and_jetstream(own: NatsServer, tmp_path: Path) -> None:
    with QueueStore(tmp_path / "from") as store:
        store.put_many("whole", [b"%d" % i for i in range(3000)])
        store.put_many(b"\xff.*", [b"x" * 70_000] * 20)
        store.trim(b"\xff.*", 7)
        store.commit("whole", "g", 1234)
        stream = io.BytesIO()
        exported = export_queues(store, stream)
    stream.seek(0)
    with broker.open_store(url_of([own], "moved", 1)) as there:
        assert import_queues(there, stream) == exported
        back = io.BytesIO()
        assert export_queues(there, back).messages == exported.messages
    back.seek(0)
    with QueueStore(tmp_path / "to") as store:
        import_queues(store, back)
        assert store.get("whole", 0, 9999) == [b"%d" % i for i in range(3000)]
        assert store.groups("whole") == {b"g": 1234}
        assert (store.first_offset(b"\xff.*"), store.length(b"\xff.*")) == (7, 20)
