"""Connections that break while puts are under way: each is stored once and in order, or its caller
is told that nobody knows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dragoman import broker, rpc
from dragoman.broker import messages as wire
from dragoman.broker.client import ServedStore
from dragoman.broker.producers import Producers
from dragoman.errors import (
    CorruptionError,
    DeadlineError,
    DragomanError,
    LinkLostError,
    LockedError,
    OverloadError,
    RemoteError,
    StorageError,
    UsageError,
)
from dragoman.queue import QueueStore
from tests.broker.worlds import SMALL


class Flaky:
    """A client whose connection breaks: some requests never leave, some replies never arrive."""

    def __init__(self, client: rpc.Client, seed: int, share: float = 0.2) -> None:
        self.client = client
        self.rng = random.Random(seed)
        self.share = share
        self.broken = 0

    def call(self, method: str, body: bytes = b"", *, timeout_ms: Any = None) -> Any:
        return self._call(method, body, timeout_ms)

    async def _call(self, method: str, body: bytes, timeout_ms: float | None) -> bytes:
        chance = self.rng.random()
        if chance < self.share / 2:
            self.broken += 1
            raise LinkLostError("cut before the request", retry_safe=self.rng.random() < 0.3)
        reply = self.client.call(method, body, timeout_ms=timeout_ms)
        if chance < self.share:
            self.broken += 1
            if self.rng.random() < 0.5:
                await reply
            raise LinkLostError("cut before the reply")
        return await reply

    async def close(self, *, drain_ms: int = 5000) -> None:
        await self.client.close(drain_ms=drain_ms)


@asynccontextmanager
async def served(place: Path, **options: Any) -> AsyncIterator[tuple[QueueStore, str]]:
    with QueueStore(place, **{"durability": "none", **SMALL, **options}) as store:
        async with await broker.serve(store, "127.0.0.1:0") as server:
            yield store, str(server.address)


@asynccontextmanager
async def flaky(address: str, seed: int, **options: Any) -> AsyncIterator[ServedStore]:
    caller = Flaky(await rpc.connect(address), seed, **options)
    async with ServedStore(caller, address, timeout_ms=60_000, bytes_max=1 << 28) as store:
        yield store
    assert caller.broken > 0


@pytest.mark.parametrize("seed", range(6))
def test_puts_over_a_connection_that_breaks_are_stored_once_and_in_order(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.broker.delivery.AGAIN_S", 0.001)
    monkeypatch.setattr("dragoman.broker.session.AGAIN_S", 0.001)

    async def main() -> None:
        rng = random.Random(seed)
        model: dict[bytes, list[bytes]] = {}
        async with served(tmp_path) as (store, address), flaky(address, seed) as client:
            pending = []
            for number in range(300):
                if rng.random() < 0.5:
                    name = b"q%d" % rng.randrange(3)
                    model.setdefault(name, []).append(b"%d" % number)
                    put = client.put(name, b"%d" % number)
                else:
                    pairs = [(b"q%d" % rng.randrange(3), b"%d.%d" % (number, i)) for i in range(5)]
                    for name, message in pairs:
                        model.setdefault(name, []).append(message)
                    put = client.put_many(pairs)  # type: ignore[assignment]
                pending.append(asyncio.ensure_future(put))
                if rng.random() < 0.7:
                    await asyncio.sleep(0)
                if rng.random() < 0.1:
                    await asyncio.sleep(0.002)
            await asyncio.gather(*pending)
            for name, messages in model.items():
                assert store.get(name, 0, 10_000) == messages
                assert await client.get(name, 0, 10_000) == messages
            server = (await client.statistics()).server
            assert server["repeated"] > 0

    asyncio.run(main())


def test_offsets_of_a_repeated_put_are_those_of_the_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (_, address), await rpc.connect(address) as client:
            producer = b"p" * 16
            opened = wire.OPENED.decode(
                await client.call("queue.open", wire.encode(wire.Open(1, producer)))
            )

            def put(sequence: int, again: bool, body: bytes, ended: int = 1) -> Any:
                put = wire.Put(opened.process, producer, sequence, ended, 0, again, b"q", [body])
                return client.call("queue.put", wire.encode(put))

            assert wire.OFFSETS.decode(await put(1, False, b"a")) == [0]
            # At the same time, twice.
            replies = await asyncio.gather(put(2, False, b"b"), put(2, True, b"b"))
            assert [wire.OFFSETS.decode(reply) for reply in replies] == [[1], [1]]
            assert wire.OFFSETS.decode(await put(1, True, b"a")) == [0]
            assert wire.OFFSETS.decode(await put(9, True, b"c", 5)) == [2]
            # 2 was done and is forgotten, 4 never came and was given up.
            for number in (2, 4):
                with pytest.raises(RemoteError, match="older than") as caught:
                    await put(number, True, b"d")
                assert caught.value.code == wire.OUTCOME_UNKNOWN
                assert isinstance(wire.from_wire(caught.value), LinkLostError)

    asyncio.run(main())


def test_a_put_that_was_refused_may_come_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (store, address), await rpc.connect(address) as client:
            producer = b"p" * 16
            opened = wire.OPENED.decode(
                await client.call("queue.open", wire.encode(wire.Open(1, producer)))
            )
            wrong = wire.Put(opened.process, producer, 1, 1, 0, False, [b"q", b""], [b"1", b"2"])
            beside = wire.Put(opened.process, producer, 2, 1, 0, False, [b"q"], [b"3"])
            outcomes = await asyncio.gather(
                client.call("queue.put", wire.encode(wrong)),
                client.call("queue.put", wire.encode(beside)),
                return_exceptions=True,
            )
            assert isinstance(outcomes[0], UsageError) and outcomes[1] == wire.encode([0])
            right = wire.Put(opened.process, producer, 1, 1, 0, True, [b"q", b"r"], [b"1", b"2"])
            assert wire.encode([1, 0]) == await client.call("queue.put", wire.encode(right))
            assert store.get("q", 0, 9) == [b"3", b"1"]

    asyncio.run(main())


def test_a_restart_while_a_put_is_under_way_is_told(tmp_path: Path) -> None:
    """The first server stores it and dies before it answers."""

    async def main() -> None:
        class Dying(Flaky):
            async def _call(self, method: str, body: bytes, timeout_ms: float | None) -> bytes:
                reply = await self.client.call(method, body, timeout_ms=timeout_ms)
                if method == "queue.put" and self.broken == 0:
                    self.broken = 1
                    await servers[0].close(drain_ms=0)
                    servers[0] = await broker.serve(store, address)
                    raise LinkLostError("the server died")
                return reply

        with QueueStore(tmp_path, **SMALL) as store:
            servers = [await broker.serve(store, "127.0.0.1:0")]
            address = str(servers[0].address)
            caller = Dying(await rpc.connect(address), 0)
            client = ServedStore(caller, address, timeout_ms=60_000, bytes_max=1 << 28)
            await client.open()
            outcomes = await asyncio.gather(
                client.put("q", b"one"), client.put("q", b"two"), return_exceptions=True
            )
            assert all(isinstance(each, LinkLostError) for each in outcomes)
            assert "was restarted" in str(outcomes[0])
            assert not any(each.retry_safe for each in outcomes if isinstance(each, LinkLostError))
            # And the next ones go to the new process, as do reads.
            assert await client.put("q", b"three") == 2
            assert await client.get("q", 0, 9) == [b"one", b"two", b"three"]
            await client.close()
            await servers[0].close()

    asyncio.run(main())


def test_an_orderly_restart_fails_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        with QueueStore(tmp_path, durability="always", **SMALL) as store:
            server = await broker.serve(store, "127.0.0.1:0")
            address = str(server.address)
            async with await broker.open_async(f"dragoman://{address}") as client:
                done = [0]

                async def put_on() -> None:
                    for number in range(200):
                        assert await client.put("q", b"%d" % number) == number
                        done[0] = number

                putting = asyncio.create_task(put_on())
                waiting = asyncio.create_task(client.wait_for("other", 0))
                for restart in range(3):
                    while done[0] < 50 * restart + 20:
                        await asyncio.sleep(0.001)
                    await server.close()
                    server = await broker.serve(store, address)
                await putting
                assert not waiting.done()
                await client.put("other", b"")
                assert await waiting == 1
                assert await client.get("q", 0, 999) == [b"%d" % i for i in range(200)]
            await server.close()

    asyncio.run(main())


def test_a_server_of_another_store_is_not_taken_for_this_one(tmp_path: Path) -> None:
    async def main() -> None:
        with QueueStore(tmp_path / "a", **SMALL) as a, QueueStore(tmp_path / "b", **SMALL) as b:
            server = await broker.serve(a, "127.0.0.1:0")
            address = str(server.address)
            async with await broker.open_async(f"dragoman://{address}") as client:
                await client.put("q", b"in a")
                await server.close()
                server = await broker.serve(b, address)
                for call in (client.put("q", b"in b"), client.get("q", 0)):
                    with pytest.raises(UsageError, match="another store is served there"):
                        await call
            assert b.length("q") == 0
            await server.close()

    asyncio.run(main())


def test_errors_are_what_the_store_raised(tmp_path: Path) -> None:
    class Broken(QueueStore):
        error: DragomanError = StorageError("no space", errno=28)

        def put_many(self, *_: Any) -> Any:
            raise self.error

        def get_many(self, *_: Any) -> Any:
            raise self.error

        def delete(self, *_: Any) -> Any:
            raise self.error

        def sync(self, *_: Any) -> Any:
            if isinstance(self.error, StorageError) and not isinstance(self.error, LockedError):
                raise self.error
            super().sync()

    async def main() -> None:
        with Broken(tmp_path, **SMALL) as store:
            async with await broker.serve(store, "127.0.0.1:0") as server:
                where = f"dragoman://{server.address}"
                async with await broker.open_async(where, timeout_ms=500) as client:
                    for error in (
                        StorageError("no space", errno=28),
                        CorruptionError("queue b'q': offsets 3 to 5: not what was written"),
                        LockedError("locked"),
                        UsageError("the store is closed"),
                    ):
                        store.error = error
                        calls = [client.put("q", b""), client.put_many("q", [b""])]
                        calls += [client.get("q", 0), client.delete("q")]  # type: ignore[list-item]
                        for call in calls:
                            with pytest.raises(type(error), match=str(error)) as caught:
                                await call
                            assert caught.value.retry_safe == error.retry_safe
                    store.error = StorageError("no space", errno=28)
                    with pytest.raises(StorageError) as sync_failed:
                        await client.sync()
                    assert sync_failed.value.errno == 28
                store.error = UsageError("")

    asyncio.run(main())


def test_a_server_that_is_away_ends_calls_at_their_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        with QueueStore(tmp_path, **SMALL) as store:
            server = await broker.serve(store, "127.0.0.1:0")
            where = f"dragoman://{server.address}"
            async with await broker.open_async(where, timeout_ms=300) as client:
                await server.close(drain_ms=0)
                for call in (client.put("q", b""), client.get("q", 0), client.length("q")):
                    with pytest.raises((DeadlineError, rpc.LinkError)) as caught:
                        await asyncio.wait_for(call, 5)
                    assert caught.value.retry_safe
        with pytest.raises(rpc.ConnectError):
            await broker.open_async(where)

    asyncio.run(main())


def test_more_puts_than_may_wait_are_refused_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        with QueueStore(tmp_path, **SMALL) as store:
            server = await broker.serve(store, "127.0.0.1:0")
            where = f"dragoman://{server.address}"
            client = await broker.open_async(where, timeout_ms=2000, bytes_max=1 << 20)
            await server.close(drain_ms=0)
            puts = [asyncio.ensure_future(client.put("q", bytes(300_000)))]
            await asyncio.sleep(0.01)
            for _ in range(5):
                puts.append(asyncio.ensure_future(client.put("q", bytes(300_000))))
                await asyncio.sleep(0.01)
            refused = [put for put in puts if put.done()]
            assert refused and all(isinstance(put.exception(), OverloadError) for put in refused)
            assert not puts[0].done()
            await asyncio.gather(*puts, return_exceptions=True)
            await client.close()

    asyncio.run(main())


def test_waiting_is_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        with QueueStore(tmp_path, **SMALL) as store:
            async with await broker.serve(store, "127.0.0.1:0", limit=8) as server:
                where = f"dragoman://{server.address}"
                async with await broker.open_async(where, timeout_ms=400) as client:
                    waiting = [asyncio.ensure_future(client.wait_for("q", 0)) for _ in range(4)]
                    await asyncio.sleep(0.1)
                    with pytest.raises(OverloadError, match="4 wait"):
                        await client.wait_for("q", 0, 0.6)
                    # Beside them puts have room.
                    assert await client.put("q", b"") == 0
                    assert await asyncio.gather(*waiting) == [1] * 4
                    assert (await client.statistics()).server["waiting"] == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("queue.put", [b"p" * 16, 1, 1, 0, False, b"q", [1]]),
        ("queue.put", [b"p" * 16, 0, 1, 0, False, b"q", [b""]]),
        ("queue.put", [b"p" * 16, -1, 1, 0, False, b"q", [b""]]),
        ("queue.put", [b"p", 1, 1, 0, False, b"q", [b""]]),
        ("queue.put", [b"p" * 16, 1, 1, 0, False, [b"q", b"r"], [b""]]),
        ("queue.put", [b"p" * 16, 1, 1, 0, False, b"q", [b""] * 100_001]),
        ("queue.put", [b"p" * 16, 1]),
        ("queue.get", [1, [[b"q", -1, 1]]]),
        ("queue.get", [1, [[b"q", 1]]]),
        ("queue.get", [1, [[b"q", 0, 1]] * 100_001]),
        ("queue.look", [[b""]]),
        ("queue.look", [["text"]]),
        ("queue.wait", [b"", 0, 10]),
        ("queue.names", [-1, 10]),
        ("queue.names", [2**40, 10]),
        ("queue.commit", [b"q", b"g", 2**63]),
        ("queue.commit", [b"q", b"", 0]),
        ("queue.trim", [b"q", -5]),
        ("queue.delete", [b"p" * 16, 1, 1, 0, False, b""]),
    ],
)
def test_a_request_that_is_wrong_is_refused_and_nothing_else(
    tmp_path: Path, method: str, fields: list[Any]
) -> None:
    async def main() -> None:
        async with served(tmp_path) as (store, address), await rpc.connect(address) as client:
            with pytest.raises(UsageError, match="version"):
                await client.call("queue.open", wire.encode(wire.Open(9, b"p" * 16)))
            opened = wire.OPENED.decode(
                await client.call("queue.open", wire.encode(wire.Open(1, b"p" * 16)))
            )
            body = wire.encode([opened.process, *fields])
            with pytest.raises(UsageError):
                await client.call(method, body)
            for cut in range(0, min(len(body), 60), 7):
                with pytest.raises(UsageError):
                    await client.call(method, body[:cut])
            with pytest.raises(RemoteError) as caught:
                await client.call("queue.sync", wire.encode([b"12345678"]))
            assert caught.value.code == wire.OTHER_PROCESS and caught.value.retry_safe
            assert store.statistics().queues == 0

    asyncio.run(main())


def test_what_a_server_remembers_of_producers_is_bounded() -> None:
    producers = Producers(producers_max=2, remembered=3, bytes_max=1000)
    names = [bytes([n]) * 16 for n in range(4)]
    for name in names[:3]:
        producers.know(name)
    assert len(producers) == 2
    with pytest.raises(RemoteError, match="forgotten its producer"):
        producers.begin(names[0], 1, 1, 0, True)
    for number in range(1, 6):
        outcome, new = producers.begin(names[1], number, 1, number - 1, False)
        assert new
        outcome.done(b"%d" % number * 10)
    assert producers.bytes == 30
    assert not producers.begin(names[1], 3, 1, 2, True)[1]
    with pytest.raises(RemoteError, match="older"):
        producers.begin(names[1], 2, 1, 1, False)
    # What the producer has heard of is let go.
    assert not producers.begin(names[1], 5, 5, 0, True)[1]
    assert producers.bytes == 10
    with pytest.raises(RemoteError, match="older"):
        producers.begin(names[1], 4, 1, 0, True)
    with pytest.raises(RemoteError, match="before") as caught:
        producers.begin(names[1], 8, 5, 7, False)
    assert caught.value.retry_safe
    # Too many bytes: who has been silent longest is forgotten, never who is speaking.
    outcome, _ = producers.begin(names[2], 1, 1, 0, False)
    outcome.done(bytes(5000))
    assert (len(producers), producers.bytes) == (1, 5000)
    assert not producers.begin(names[2], 1, 1, 0, True)[1]
    for wrong in ((0, 0), (3, 4), (1 << 63, 1)):
        with pytest.raises(UsageError):
            producers.begin(names[2], *wrong, 0, False)
    with pytest.raises(UsageError):
        producers.know(b"short")


def test_a_client_at_work_leaves_little_to_remember(tmp_path: Path) -> None:
    async def main() -> None:
        with QueueStore(tmp_path, durability="none", **SMALL) as store:
            async with (
                await broker.serve(store, "127.0.0.1:0") as server,
                await broker.open_async(f"dragoman://{server.address}") as client,
            ):
                for _ in range(50):
                    await client.put_many("q", [b""] * 1000)
                assert server._service._producers.bytes < 10_000

    asyncio.run(main())
