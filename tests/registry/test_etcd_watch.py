"""The watch against a scripted gateway: what a real etcd does only under load or by a bug of its
own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest
import uvloop

from dragoman.errors import RegistryError
from dragoman.registry import Registration
from dragoman.registry.etcd_watch import EtcdWatch, WatchCounters, WatchSettings
from dragoman.registry.gateway import Event, Header, KeyValue, RangeReply, WatchReply
from tests.waiting import until

from .conftest import INTERFACE, endpoint

# Audits are far away unless a test asks for them.
QUIET = WatchSettings(
    audit_s=100,
    reconcile_s=100,
    settle_s=0.05,
    grace_s=0.2,
    backoff_min_s=0.001,
    backoff_max_s=0.01,
)


def kv(port: int, revision: int, value: bytes = b"{}") -> KeyValue:
    key = endpoint(port).key("/p").encode()
    return KeyValue(key=key, value=value, mod_revision=revision, lease=1)


def put(port: int, revision: int) -> Event:
    return Event(kv=kv(port, revision))


def delete(port: int, revision: int) -> Event:
    return Event(kv=kv(port, revision, b""), type="DELETE")


class Scripted:
    """A gateway whose list is ``keys`` at ``revision``, and whose streams a test feeds by hand."""

    def __init__(self) -> None:
        self.keys: dict[int, int] = {}
        self.revision = 1
        self.streams: list[tuple[int, asyncio.Queue[WatchReply | Exception | None]]] = []
        self.failing = False
        self.lists = 0
        self.page_keys = 1000
        self.last_error = "scripted"

    def distrust(self) -> None:
        pass

    def events(self, raw: list[msgspec.Raw]) -> list[Event]:
        return [msgspec.json.decode(each, type=Event) for each in raw]

    async def range(self, key: bytes, end: bytes, **options: Any) -> RangeReply:
        await asyncio.sleep(0)
        if self.failing:
            raise RegistryError("scripted failure")
        kvs = [kv(port, revision) for port, revision in self.keys.items()]
        header = Header(revision=self.revision)
        if options.get("newest_only"):
            newest = sorted(kvs, key=lambda each: each.mod_revision)[-1:]
            return RangeReply(header=header, kvs=newest, count=len(kvs))
        rest = sorted((each for each in kvs if each.key >= key), key=lambda each: each.key)
        page = rest[: min(options["limit"], self.page_keys)]
        self.lists += len(page) == len(rest)
        return RangeReply(header=header, kvs=page, count=len(kvs), more=len(page) < len(rest))

    async def watch(
        self, key: bytes, end: bytes, revision: int
    ) -> AsyncGenerator[WatchReply, None]:
        queue: asyncio.Queue[WatchReply | Exception | None] = asyncio.Queue()
        self.streams.append((revision, queue))
        yield WatchReply(header=Header(revision=self.revision), created=True)
        while True:
            item = await queue.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def send(self, *events: Event, fragment: bool = False) -> None:
        self.revision = max([self.revision, *(event.kv.mod_revision for event in events)])
        self.streams[-1][1].put_nowait(
            WatchReply(
                header=Header(revision=self.revision),
                events=[msgspec.Raw(msgspec.json.encode(each)) for each in events],
                fragment=fragment,
            )
        )

    def end(self, error: Exception | None = None) -> None:
        self.streams[-1][1].put_nowait(error)


class Case:
    def __init__(self, settings: WatchSettings) -> None:
        self.etcd = Scripted()
        self.counters = WatchCounters()
        self.seen: list[list[int]] = []
        self.settings = settings

    def open(self) -> None:
        self.watch = EtcdWatch(
            self.etcd,  # type: ignore[arg-type]
            "/p",
            INTERFACE,
            self._note,
            settings=self.settings,
            counters=self.counters,
            rng=random.Random(1),
        )

    def _note(self, snapshot: list[Registration]) -> None:
        self.seen.append([each.port for each in snapshot])

    async def streaming(self, count: int = 1) -> None:
        await until(lambda: len(self.etcd.streams) >= count and self.watch.synced)


def case(settings: WatchSettings = QUIET) -> Callable[[Callable[[Case], Any]], Callable[[], None]]:
    """Run the decorated coroutine with a Case on uvloop."""

    def decorate(scenario: Callable[[Case], Any]) -> Callable[[], None]:
        def test() -> None:
            async def run() -> None:
                each = Case(settings)
                try:
                    await scenario(each)
                finally:
                    await each.watch.close()

            uvloop.run(run())

        test.__name__ = scenario.__name__
        return test

    return decorate


@case()
async def test_a_watch_starts_right_after_the_list(c: Case) -> None:
    c.etcd.keys, c.etcd.revision = {1: 5}, 9
    c.open()
    await c.streaming()
    assert c.etcd.streams[0][0] == 10
    assert c.seen == [[1]]


@case()
async def test_fragments_are_applied_when_complete(c: Case) -> None:
    c.open()
    await c.streaming()
    c.etcd.send(put(1, 2), put(2, 2), fragment=True)
    c.etcd.send(put(3, 2), fragment=True)
    await asyncio.sleep(0.02)
    assert c.seen == [[]]
    c.etcd.send(put(4, 2))
    await until(lambda: c.seen == [[], [1, 2, 3, 4]])


@case()
async def test_a_stream_that_breaks_between_fragments_is_resumed_before_them(c: Case) -> None:
    c.open()
    await c.streaming()
    c.etcd.send(put(1, 2))
    c.etcd.send(put(2, 3), fragment=True)
    c.etcd.end(RegistryError("broken"))
    await c.streaming(2)
    assert c.etcd.streams[1][0] == 3
    assert c.seen == [[], [1]]
    c.etcd.send(put(2, 3), put(3, 3))
    await until(lambda: c.seen[-1] == [1, 2, 3])


@case()
async def test_a_change_of_leader_resumes_after_the_last_seen_without_a_list(c: Case) -> None:
    c.open()
    await c.streaming()
    c.etcd.send(put(1, 7))
    c.etcd.end(RegistryError("etcdserver: no leader"))
    await c.streaming(2)
    assert c.etcd.streams[1][0] == 8
    assert c.etcd.lists == 1


@case()
async def test_a_stream_that_ends_quietly_is_resumed(c: Case) -> None:
    c.open()
    await c.streaming()
    c.etcd.end()
    await c.streaming(2)
    assert c.etcd.lists == 1


@case()
async def test_progress_moves_the_place_to_resume_from(c: Case) -> None:
    c.open()
    await c.streaming()
    c.etcd.revision = 50
    c.etcd.send()
    c.etcd.end()
    await c.streaming(2)
    assert c.etcd.streams[1][0] == 51


@case()
async def test_events_that_a_list_has_overtaken_are_not_applied_again(c: Case) -> None:
    c.etcd.keys, c.etcd.revision = {1: 5}, 9
    c.open()
    await c.streaming()
    c.etcd.send(delete(1, 4), put(2, 9))
    c.etcd.send(put(3, 10))
    await until(lambda: c.seen == [[1], [1, 3]])


@case()
async def test_a_revision_that_went_back_is_listed_anew(c: Case) -> None:
    c.etcd.keys, c.etcd.revision = {1: 50}, 60
    c.open()
    await c.streaming()
    c.etcd.keys, c.etcd.revision = {1: 3, 2: 4}, 4
    c.etcd.end(RegistryError("restarted with other data"))
    await until(lambda: c.seen[-1] == [1, 2])
    await until(lambda: c.etcd.streams[-1][0] == 5)
    c.etcd.send(put(3, 5))
    await until(lambda: c.seen[-1] == [1, 2, 3])


@case()
async def test_no_error_changes_the_list(c: Case) -> None:
    c.etcd.keys = {1: 1}
    c.open()
    await c.streaming()
    c.etcd.failing = True
    c.etcd.streams[-1][1].put_nowait(
        WatchReply(header=Header(revision=1), canceled=True, compact_revision=9)
    )
    await asyncio.sleep(0.1)
    assert c.seen == [[1]]
    assert not c.watch.synced
    assert c.counters.compactions_total == 1
    c.etcd.failing = False
    await c.streaming(2)
    assert c.seen == [[1]]


@case()
async def test_an_entry_that_vanishes_is_served_for_its_grace(c: Case) -> None:
    c.etcd.keys = {1: 1, 2: 1}
    c.open()
    await c.streaming()
    c.etcd.keys = {2: 1}
    c.etcd.send(delete(1, 2))
    await until(lambda: c.watch.held_entries == 1)
    assert c.seen == [[1, 2]]
    await until(lambda: c.seen == [[1, 2], [2]], 1)
    assert c.watch.held_entries == 0


@case()
async def test_an_entry_that_comes_back_within_its_grace_was_never_gone(c: Case) -> None:
    c.etcd.keys = {1: 1}
    c.open()
    await c.streaming()
    c.etcd.send(delete(1, 2))
    c.etcd.keys = {1: 3}
    c.etcd.send(put(1, 3))
    await asyncio.sleep(QUIET.grace_s + 0.1)
    assert c.seen == [[1]]
    assert c.watch.held_entries == 0


@case()
async def test_grace_does_not_run_out_while_etcd_is_away(c: Case) -> None:
    c.etcd.keys = {1: 1}
    c.open()
    await c.streaming()
    c.etcd.keys = {}
    c.etcd.send(delete(1, 2))
    await until(lambda: c.watch.held_entries == 1)
    c.etcd.failing = True
    await asyncio.sleep(QUIET.grace_s * 2)
    assert c.seen == [[1]]
    c.etcd.failing = False
    await until(lambda: c.seen == [[1], []], 2)


@case(WatchSettings(audit_s=0.02, settle_s=0.02, grace_s=0.05, reconcile_s=100))
async def test_lost_events_are_found_by_the_audit(c: Case) -> None:
    c.etcd.keys = {1: 1, 2: 1}
    c.open()
    await c.streaming()
    # The store has moved on, and the stream says nothing.
    c.etcd.keys, c.etcd.revision = {1: 1, 3: 8}, 8
    await until(lambda: c.seen[-1] == [1, 3], 2)
    assert c.counters.repairs_total == 1
    assert [1, 2, 3] in c.seen


@case(WatchSettings(audit_s=0.02, settle_s=0.1, grace_s=0.05, reconcile_s=100))
async def test_a_stream_that_is_only_late_is_left_alone(c: Case) -> None:
    c.open()
    await c.streaming()
    c.etcd.keys, c.etcd.revision = {1: 8}, 8
    await asyncio.sleep(0.06)
    c.etcd.send(put(1, 8))
    await until(lambda: c.seen[-1] == [1])
    await asyncio.sleep(0.15)
    assert c.counters.repairs_total == 0
    assert len(c.etcd.streams) == 1


@case(WatchSettings(audit_s=0.02, settle_s=0.02, grace_s=0.05, reconcile_s=0.1))
async def test_the_full_list_is_read_every_so_often(c: Case) -> None:
    c.open()
    await c.streaming()
    await until(lambda: c.etcd.lists >= 3, 2)
    assert len(c.etcd.streams) == 1


@case()
async def test_pauses_between_tries_double_are_jittered_and_bounded(c: Case) -> None:
    c.open()
    pauses = [[c.watch._pause_s(failures) for _ in range(50)] for failures in range(12)]
    assert all(QUIET.backoff_min_s / 2 <= pause <= QUIET.backoff_min_s for pause in pauses[0])
    assert max(pauses[2]) > max(pauses[1]) > max(pauses[0])
    assert all(pause <= QUIET.backoff_max_s for each in pauses for pause in each)
    assert len(set(pauses[11])) > 40


@pytest.mark.parametrize("at", range(4))
def test_closing_at_any_point_leaves_no_task(at: int) -> None:
    async def scenario() -> None:
        c = Case(QUIET)
        c.open()
        for _ in range(at):
            await asyncio.sleep(0)
        await c.watch.close()
        await c.watch.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    uvloop.run(scenario())


@case(WatchSettings(audit_s=0.02, settle_s=0.02, backoff_min_s=0.001, backoff_max_s=0.01))
async def test_a_bug_in_a_task_does_not_end_the_watch(c: Case) -> None:
    c.etcd.keys = {1: 1}
    c.open()
    await c.streaming()
    broken, c.etcd.range = c.etcd.range, None  # type: ignore[method-assign, assignment]
    await asyncio.sleep(0.1)
    c.etcd.range = broken  # type: ignore[method-assign]
    c.etcd.keys, c.etcd.revision = {1: 1, 2: 5}, 5
    await until(lambda: c.seen[-1] == [1, 2])


@case()
async def test_a_list_comes_in_pages_and_what_the_stream_brings_meanwhile_stands(c: Case) -> None:
    c.etcd.page_keys = 10
    c.etcd.keys = {port: port for port in range(1, 96)}
    c.etcd.revision = 100
    c.open()
    await c.streaming()
    assert c.seen[-1] == list(range(1, 96))
    c.etcd.send(delete(5, 101))
    c.etcd.send(put(96, 102))
    await until(lambda: c.seen[-1][-1] == 96)
    # The next list, read while the stream goes on, is of before that.
    reading = asyncio.ensure_future(c.watch._read_list())
    await asyncio.sleep(0)
    c.etcd.send(put(97, 103))
    assert await reading
    await until(lambda: c.seen[-1][-2:] == [96, 97])


@case(msgspec.structs.replace(QUIET, audit_s=0.02, grace_s=0.05))
async def test_what_has_vanished_goes_with_the_first_complete_list_however_late(c: Case) -> None:
    c.etcd.keys = {port: port for port in range(1, 20)}
    c.etcd.revision = 30
    c.open()
    await c.streaming()
    c.etcd.keys = {1: 1}
    c.etcd.send(*(delete(port, 30 + port) for port in range(2, 20)))
    await until(lambda: c.watch.held_entries == 18)
    # No stream lasts for long: each is cut off as soon as it stands.
    count = 1
    until_s = asyncio.get_running_loop().time() + 10
    while c.watch.held_entries and asyncio.get_running_loop().time() < until_s:
        c.etcd.streams[-1][1].put_nowait(
            WatchReply(header=Header(revision=c.etcd.revision), canceled=True)
        )
        count += 1
        await c.streaming(count)
    assert c.watch.held_entries == 0
    assert c.watch.current == [endpoint(1)]
