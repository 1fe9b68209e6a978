"""What is special about stores on JetStream: clusters that lose a server, many writers, names and
records, URLs, and what went wrong in between."""

from __future__ import annotations

import asyncio
import gc
import io
import random
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dragoman import broker
from dragoman.broker.exchange import export_queues, import_queues
from dragoman.broker.nats_names import Location, name_of, parse, token_of
from dragoman.broker.nats_records import BLOCK, LAST, PART, Found, Places, Record, Search
from dragoman.broker.nats_store import NatsStore
from dragoman.broker.nats_stream import Streams
from dragoman.errors import (
    ConnectError,
    CorruptionError,
    DragomanError,
    LinkLostError,
    PositionLostError,
    StorageError,
    UsageError,
)
from dragoman.queue import MessageStore, QueueStore
from tests.broker.nats_servers import PROGRAM, NatsServer, nats_cluster, nats_server
from tests.load_factor import load_factor

needs_server = pytest.mark.skipif(
    PROGRAM is None, reason="nats-server is not installed (Debian's package nats-server)"
)


# Names and URLs.


def test_every_name_has_a_token_of_its_own() -> None:
    rng = random.Random(1)
    names = {bytes([b]) for b in range(256)} | {rng.randbytes(n) for n in range(1, 400)}
    names |= {b"a" * n for n in range(1, 300)} | {b"=41", b"A", b"~", b"a.b", b"x" * 65536}
    tokens = {token_of(name) for name in names}
    assert len(tokens) == len(names)
    for name in names:
        token = token_of(name)
        assert len(token) <= 200 and not set(token) & set(" .*>\t\r\n\0") and token.isascii()
        assert token.startswith("~") or name_of(token) == name
    assert token_of(b"orders-7_x") == "orders-7_x"
    assert token_of(b"a.b") == "a=2Eb"


def test_urls_say_servers_prefix_and_settings() -> None:
    assert parse("nats://a/p") == Location(["nats://a:4222"], "p")
    assert parse("nats://u:p%40@a:1,[::1]:2,c/q-1?replicas=3&storage=memory") == Location(
        ["nats://a:1", "nats://[::1]:2", "nats://c:4222"], "q-1", 3, "memory", "u", "p@"
    )


@pytest.mark.parametrize(
    "url",
    [
        "nats://a",
        "nats://a/",
        "nats://a/x.y",
        "nats://a/x/y",
        "nats:///p",
        "nats://a:b/p",
        "nats://a:0/p",
        "nats://a,/p",
        "nats://a/p?replicas=0",
        "nats://a/p?replicas=x",
        "nats://a/p?storage=tape",
        "nats://a/p?color=red",
        "nats://a/p?replicas",
        "nats://me:secret@a/x.y",
    ],
)
def test_a_url_that_says_nothing_of_use_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="expected nats://") as caught:
        broker.open_store(url)
    assert "secret" not in str(caught.value)


# Finding an offset.


@pytest.mark.parametrize("seed", range(20))
def test_a_search_finds_every_offset_in_few_steps(seed: int) -> None:
    rng = random.Random(seed)
    records: list[Found] = []
    seq, offset = 0, 0
    for _ in range(rng.choice([1, 2, 50, 400])):
        seq += rng.choice([1, 1, 2, 50, 3000])
        kind = rng.choice([BLOCK] * 8 + [PART, LAST])
        count = rng.choice([1, 1, 3, 200]) if kind == BLOCK else 1
        records.append(Found(seq, Record(kind, b"", b"", offset, [b""] * count)))
        offset = records[-1].record.end
    seq += 1
    records.append(Found(seq, Record(BLOCK, b"", b"", offset, [b""])))
    length = offset + 1
    purged = rng.choice([0, 0, len(records) // 2])
    left = records[purged:]
    first = left[0].record.first
    places = Places(b"")
    for _ in range(300):
        wanted = rng.randrange(length)
        low, high = places.around(wanted)
        search = Search(wanted, low, high or (length, seq + 1))
        for _step in range(60):
            asked = search.probe()
            got = next((each for each in left if each.seq >= asked), None)
            if got is not None:
                places.note(got.record.first, got.seq)
            if search.answer(asked, got):
                break
        else:
            pytest.fail(f"no end for {wanted}")
        if wanted < first:
            assert search.found is None and search.gone
        else:
            assert search.found is not None
            assert search.found.record.first <= wanted < search.found.record.end


# Faults.


def url_of(servers: list[NatsServer], prefix: str, replicas: int) -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"nats://{hosts}/{prefix}?replicas={replicas}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that tests of this module restart."""
    with nats_server(tmp_path_factory.mktemp("own")) as server:
        yield server


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


@needs_server
def test_many_writers_of_one_queue_leave_no_gap_and_no_double(own: NatsServer) -> None:
    url = url_of([own], "writers", 1)

    async def main() -> None:
        stores = [await broker.open_async(url) for _ in range(5)]

        async def put(number: int) -> list[tuple[int, bytes]]:
            store = stores[number % 5]
            done = []
            for i in range(20):
                message = b"%d:%d" % (number, i)
                done.append((await store.put("q", message), message))
            return done

        every = [pair for done in await asyncio.gather(*map(put, range(20))) for pair in done]
        messages = await stores[0].get("q", 0, 1000)
        assert len(messages) == 400
        assert sorted(every) == list(enumerate(messages))
        for store in stores:
            await store.close()

    asyncio.run(main())


@needs_server
def test_a_restart_mid_run_fails_no_put(own: NatsServer) -> None:
    url = url_of([own], "restarts", 1)
    with broker.open_store(url) as store:
        timer = threading.Thread(target=lambda: (time.sleep(0.2), own.kill(), own.start()))
        timer.start()
        number = 0
        while timer.is_alive() or number < 50:
            assert store.put("q", b"%d" % number) == number
            number += 1
        timer.join()
        assert store.get("q", 0, number + 1) == [b"%d" % i for i in range(number)]


@needs_server
@pytest.mark.parametrize("seed", range(3))
def test_replies_that_are_lost_cost_no_message_and_double_none(own: NatsServer, seed: int) -> None:
    """Each publication may be lost on its way there, or its acknowledgement on its way back, and
    JetStream's own memory of duplicates may have ended meanwhile."""
    url = url_of([own], f"lost{seed}", 1)

    async def main() -> None:
        rng = random.Random(seed)
        store = await broker.open_async(url)
        assert isinstance(store, NatsStore)
        streams = store._streams
        request = streams._request
        lost = [0, 0]

        async def losing(subject: str, body: bytes, headers: Any, until_s: float) -> Any:
            chance = rng.random()
            if chance < 0.15:
                lost[0] += 1
                return None
            if headers is not None and rng.random() < 0.2:
                # As if the time in which JetStream knows it had passed.
                headers = {**headers, "Nats-Msg-Id": str(rng.random())}
            reply = await request(subject, body, headers, until_s)
            if chance < 0.3:
                lost[1] += 1
                return None
            return reply

        streams._request = losing  # type: ignore[method-assign]
        model: dict[bytes, list[bytes]] = {}
        pending = []
        for number in range(120):
            name = b"q%d" % rng.randrange(4)
            message = b"%d" % number * rng.choice([1, 1, 30_000])
            model.setdefault(name, []).append(message)
            pending.append(asyncio.ensure_future(store.put(name, message)))
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        await asyncio.gather(*pending)
        streams._request = request  # type: ignore[method-assign]
        assert min(lost) > 3
        for name, messages in model.items():
            assert await store.get(name, 0, 999) == messages
        await store.close()

    asyncio.run(main())


@needs_server
def test_a_publication_found_by_its_id_counts_after_duplicates_are_forgotten(
    own: NatsServer,
) -> None:
    async def main() -> None:
        store = await broker.open_async(url_of([own], "found", 1))
        assert isinstance(store, NatsStore)
        streams = store._streams
        # JetStream remembers nothing: only the sequence tells.
        config = (await streams.info("found") or {})["config"]
        await streams.api("STREAM.UPDATE.found", {**config, "duplicate_window": 100_000_000})
        request = streams._request
        calls = [0]

        async def losing(subject: str, body: bytes, headers: Any, until_s: float) -> Any:
            reply = await request(subject, body, headers, until_s)
            if headers is not None and "Nats-Expected-Last-Subject-Sequence" in headers:
                calls[0] += 1
                if calls[0] == 1:
                    await asyncio.sleep(0.4)
                    return None
            return reply

        streams._request = losing  # type: ignore[method-assign]
        assert await store.put("q", b"once") == 0
        assert calls[0] == 2
        assert await store.put("q", b"then") == 1
        assert await store.get("q", 0, 9) == [b"once", b"then"]
        await store.close()

    asyncio.run(main())


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
def test_parts_that_nobody_finished_are_passed_over(own: NatsServer) -> None:
    """A program that ended in the middle of a large message."""

    async def main() -> None:
        url = url_of([own], "parts", 1)
        store = await broker.open_async(url)
        assert isinstance(store, NatsStore)
        large = random.Random(1).randbytes(3_500_000)
        await store.put_many("q", [b"before", large])
        end = await store._writer._find_end(b"q", "q", "parts.q.q", store._streams.deadline_s())
        for number in range(2):
            record = Record(PART, end.life, b"", end.offset, [b"left over"], number)
            end.seq = await store._writer._publish_record(
                "parts.q.q", record, end.seq, store._streams.deadline_s()
            )
        assert await store.length("q") == 2
        assert await store.get("q", 2, 5) == []
        async with await broker.open_async(url) as other:
            assert await other.put_many("q", [b"after", large]) == [2, 3]
            for at in range(4):
                wanted = [b"before", large, b"after", large][at:]
                assert await other.get("q", at, 9) == wanted
        # And the first one's knowledge of the end is no more: it looks again.
        assert await store.put("q", b"last") == 4
        await store.trim("q", 3)
        assert await store.get("q", 3, 9) == [large, b"last"]
        await store.close()

    asyncio.run(main())


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
