"""Messages that a server of JetStream has not got, or no longer: that is noticed, and is no end."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from dragoman import broker
from dragoman.broker.nats_records import Found
from dragoman.broker.nats_store import NatsStore
from dragoman.broker.nats_stream import Streams
from dragoman.errors import (
    CorruptionError,
    DragomanError,
    PositionLostError,
    UsageError,
)
from tests.broker.nats_servers import NatsServer, nats_server, needs_server, url_of


@needs_server
@pytest.mark.parametrize("kind", ["lags", "has a gap"])
def test_a_server_that_has_not_all_shortens_no_answer(
    own: NatsServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A replica that lags, and then a leader that was just elected and knows no better at first;
    or one that has only what came later."""
    with broker.open_store(url_of([own], f"lag{len(kind)}", 1), timeout_ms=20_000) as store:
        for number in range(20):
            store.put_many("q", [b"%d" % (3 * number + i) for i in range(3)])
        expected = [b"%d" % i for i in range(60)]
        at_replica, at_leader = Streams.next_at_replica, Streams.next_at_leader
        ignorant = 0

        async def lag(streams: Streams, stream: str, subject: str, seq: int) -> Found | None:
            if kind == "has a gap":
                return await at_replica(streams, stream, subject, seq + 2 if seq > 5 else seq)
            return await at_replica(streams, stream, subject, seq) if seq <= 5 else None

        async def learn(streams: Streams, stream: str, subject: str, seq: int) -> Found | None:
            nonlocal ignorant
            ignorant += 1
            if kind == "lags" and ignorant % 4:
                return None
            return await at_leader(streams, stream, subject, seq)

        monkeypatch.setattr(Streams, "next_at_replica", lag)
        monkeypatch.setattr(Streams, "next_at_leader", learn)
        assert store.get("q", 0, 100) == expected
        assert ignorant >= 10
        assert store.get("q", 3, 50) == expected[3:53]
        monkeypatch.undo()


@needs_server
def test_what_is_purged_by_others_is_gone_and_said_to_be(own: NatsServer) -> None:
    """JetStream's own limits take whole records from the front."""

    async def main() -> None:
        async with await broker.open_async(url_of([own], "limits", 1)) as store:
            assert isinstance(store, NatsStore)
            for number in range(30):
                await store.put("q", b"%d" % number)
            await store._streams.api("STREAM.PURGE.limits", {"filter": "limits.q.q", "keep": 10})
            assert (await store.first_offset("q"), await store.length("q")) == (20, 30)
            with pytest.raises(UsageError, match="offset 19 is gone: the first of the queue is 20"):
                await store.get("q", 19, 5)
            assert await store.get("q", 20, 99) == [b"%d" % i for i in range(20, 30)]
            consumer = await store.consumer("q", "g")
            assert await consumer.read(2) == [b"20", b"21"]

    asyncio.run(main())


@needs_server
def test_a_stream_that_is_deleted_under_an_open_store_is_not_read_as_empty(own: NatsServer) -> None:
    url = f"nats://127.0.0.1:{own.port}/deleted"
    with broker.open_store(url, timeout_ms=3000) as store:
        store.put_many("q", [b"1", b"2"])
        consumer = store.consumer("q", "g")
        _delete_stream(own, "deleted")
        for call in (
            lambda: store.length("q"),
            lambda: store.get("other", 0, 1),
            lambda: "q" in store,
            lambda: list(store.queues()),
            lambda: consumer.read(5),
            store.statistics,
        ):
            with pytest.raises(CorruptionError, match="the stream is gone"):
                call()
        with pytest.raises(DragomanError):
            store.put("q", b"3")


def _delete_stream(server: NatsServer, name: str) -> None:
    async def delete() -> None:
        import nats

        client = await nats.connect(f"nats://127.0.0.1:{server.port}")
        await client.jetstream().delete_stream(name)
        await client.close()

    asyncio.run(delete())


@needs_server
def test_a_consumer_notices_that_what_it_read_was_lost_and_put_anew(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        url = url_of([server], "tail", 1)
        with broker.open_store(url) as store, broker.open_store(url) as other:
            store.put_many("q", [b"kept %d" % n for n in range(5)])
            consumer, ahead = store.consumer("q", "g"), store.consumer("q", "h")
            assert len(consumer.read(3)) == 3
            server.kill()
            shutil.copytree(tmp_path / server.name, tmp_path / "synced")
            server.start()
            # Both were told of a new connection, and nothing is wrong yet.
            assert consumer.read(1) == [b"kept 3"]
            store.put_many("q", [b"lost %d" % n for n in range(5)])
            assert len(ahead.read(9)) == 9
            server.kill()
            shutil.rmtree(tmp_path / server.name)
            shutil.copytree(tmp_path / "synced", tmp_path / server.name)
            server.start()
            other.put_many("q", [b"new %d" % n for n in range(20)])
            with pytest.raises(PositionLostError):
                ahead.read()
            assert ahead.read(2) == [b"kept 0", b"kept 1"]
            # Who had read what is still there goes on.
            assert consumer.read(2) == [b"kept 4", b"new 0"]
            consumer.commit()
            assert store.committed("q", "g") == 6


@needs_server
def test_a_commit_of_what_was_lost_and_put_anew_is_refused(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        url = url_of([server], "tail", 1)
        with broker.open_store(url) as store:
            store.put("q", b"kept")
            server.kill()
            shutil.copytree(tmp_path / server.name, tmp_path / "synced")
            server.start()
            store.put_many("q", [b"lost"] * 5)
            consumer = store.consumer("q", "g")
            assert len(consumer.read(4)) == 4
            server.kill()
            shutil.rmtree(tmp_path / server.name)
            shutil.copytree(tmp_path / "synced", tmp_path / server.name)
            server.start()
            store.put_many("q", [b"new"] * 20)
            with pytest.raises(PositionLostError):
                consumer.commit()
            assert consumer.read(2) == [b"kept", b"new"]
