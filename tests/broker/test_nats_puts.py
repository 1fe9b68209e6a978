"""Puts on JetStream: each message once and in order, whoever else puts and whatever is lost."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import pytest

from dragoman import broker
from dragoman.broker.nats_records import PART, Record
from dragoman.broker.nats_store import NatsStore
from tests.broker.nats_servers import NatsServer, needs_server, url_of


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
