"""The contest's second round on this machine: put everything, look anywhere, consume in order.

Called by ``dragoman bench queue``. Three phases over one store: all messages are put, round after
round over all queues; ranges of ten are read at random places; a part of the queues is read
through in batches of ten. Every message that is read is compared with what was put. The invariant:
making the messages and comparing them is not part of a phase's time for puts, and is part of it
for reads.
"""

from __future__ import annotations

import random
import resource
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dragoman.bench.queue_load import messages, wrong
from dragoman.errors import DragomanError, UsageError
from dragoman.observe.histogram import Histogram
from dragoman.queue import QueueStore

BATCH = 10
# How many queues one thread has under way while it reads.
UNDER_WAY = 512
# Puts between two looks at the clock.
STRETCH = 20_000
# Of each stretch so many puts are timed one by one, apart from the rate.
SAMPLED = 100
# Messages a queue that other stores are given.
PEER_ROUNDS = 20
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """The settings of a run. Sizes in bytes."""

    path: Path
    queues: int = 1_000_000
    messages: int = 100_000_000
    size: int = 50
    threads: int = 1
    readers: int = 4
    api: str = "put"
    batch: int = 1000
    durability: str = "none"
    memory_bytes: int = 1_400_000_000
    checks: int = 0
    consume: float = 0.2
    seed: int = 20181121
    keep: bool = False
    peers: bool = False
    peer_messages: int = 5_000_000

    def checked(self) -> Plan:
        """Itself, or UsageError."""
        if self.api not in ("put", "put_many"):
            raise UsageError(f"--api is put or put_many, not {self.api!r}")
        if not 1 <= self.queues <= 100_000_000 or self.messages < self.queues:
            raise UsageError("--queues is 1 to 100,000,000, and --messages is no fewer")
        if not 0 <= self.size <= 65536 or not 1 <= self.threads <= 256:
            raise UsageError("--size is 0 to 65536, --threads 1 to 256")
        if not 1 <= self.readers <= 256:
            raise UsageError("--readers is 1 to 256")
        if not 0 <= self.consume <= 1:
            raise UsageError("--consume is a share between 0 and 1")
        if self.peers and self.peer_messages < PEER_ROUNDS:
            raise UsageError(f"--peer-messages is at least {PEER_ROUNDS}")
        return self


@dataclass
class Phase:
    """One phase: how many messages in how many seconds, and how many were wrong."""

    name: str
    messages: int = 0
    calls: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    wrong: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "messages_per_second": self.rate}


def resident_bytes() -> int:
    """The process's resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class QueueBench:
    """One run. ``run`` gives the report as a dictionary; ``progress`` hears of each stretch."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan.checked()
        self.progress = progress
        self.names = [b"queue-%07d" % number for number in range(plan.queues)]
        self.rounds = plan.messages // plan.queues
        self.latency = Histogram()
        self._done = 0
        self._seconds = [0.0] * plan.threads
        self._lock = threading.Lock()

    def run(self) -> dict[str, Any]:
        """All phases; the store is removed afterwards unless it is to be kept."""
        plan = self.plan
        if plan.path.exists() and any(plan.path.iterdir()):
            raise UsageError(f"{plan.path} is not empty")
        before = resident_bytes()
        try:
            store = QueueStore(
                plan.path,
                durability=plan.durability,
                memory_bytes=plan.memory_bytes,
                expected_queues=plan.queues,
            )
            touched = resident_bytes()
            try:
                put = self._put_all(store)
                memory = {
                    "resident_before_bytes": before,
                    # Memory was touched before the first put: first touch is not in the rates.
                    "resident_touched_bytes": touched,
                    "resident_bytes": resident_bytes(),
                    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                }
                after_put = asdict(store.statistics())
                check = self._check_some(store)
                consume = self._consume_chosen(store)
                memory["resident_at_end_bytes"] = resident_bytes()
                started = time.perf_counter()
            finally:
                store.close()
            closing_s = time.perf_counter() - started
            started = time.perf_counter()
            with QueueStore(plan.path, read_only=True, memory_bytes=plan.memory_bytes):
                opening_s = time.perf_counter() - started
            disk = sum(file.stat().st_blocks * 512 for file in plan.path.iterdir())
        finally:
            if not plan.keep:
                shutil.rmtree(plan.path, ignore_errors=True)
        peers = self._peers() if plan.peers else []
        phases = [put, check, consume]
        in_blocks = max(1, after_put["messages_in_blocks"])
        return {
            "plan": {**asdict(plan), "path": str(plan.path)},
            "phases": {phase.name: phase.as_dict() for phase in phases},
            "score": sum(p.messages for p in phases) / sum(p.seconds for p in phases),
            "wrong": sum(phase.wrong for phase in phases) + sum(p.get("wrong", 0) for p in peers),
            "memory": memory,
            "disk_bytes_per_message": after_put["log_bytes"] / in_blocks,
            "disk_bytes_closed": disk,
            "closing_seconds": closing_s,
            "opening_seconds": opening_s,
            "peers": peers,
            "statistics": after_put,
        }

    def _peers(self) -> list[dict[str, Any]]:
        # This store and others with the same, smaller load: most of them are slow.
        from dragoman.bench.queue_peers import PEERS, run_peer

        plan = self.plan
        queues = max(1, min(plan.queues, plan.peer_messages // PEER_ROUNDS))
        path = plan.path.with_name(plan.path.name + "-peer")
        small = replace(
            plan,
            path=path,
            queues=queues,
            messages=queues * PEER_ROUNDS,
            threads=1,
            readers=1,
            api="put_many",
            durability="none",
            # As much a queue as the large store had, so that here, too, blocks go to the disk.
            memory_bytes=max(1 << 24, plan.memory_bytes * queues // plan.queues // 5),
            checks=min(queues, 100_000),
            keep=False,
            peers=False,
        )
        own = QueueBench(small, lambda phase, *at: self.progress(f"dragoman {phase}", *at)).run()
        phases = own["phases"]
        result = [
            {
                "name": "dragoman",
                "version": version("dragoman"),
                "queues": queues,
                "messages": small.messages,
                "put_per_second": phases["put"]["messages_per_second"],
                "resident_bytes": own["memory"]["resident_bytes"],
                "disk_bytes": own["disk_bytes_closed"],
                "gets_per_second": phases["check"]["calls"] / phases["check"]["seconds"],
                "consumed_per_second": phases["consume"]["messages_per_second"],
                "wrong": own["wrong"],
            }
        ]
        result += [
            run_peer(
                kind,
                path,
                queues=queues,
                rounds=PEER_ROUNDS,
                size=plan.size,
                consume=plan.consume,
                seed=plan.seed,
                progress=self.progress,
            )
            for kind in PEERS
        ]
        return result

    # Phases.

    def _put_all(self, store: QueueStore) -> Phase:
        plan = self.plan
        total = self.rounds * plan.queues
        put = self._phase("put", total, lambda n: self._put(store, n), plan.threads)
        put.extra["p50_us"] = self.latency.quantile(0.5)
        put.extra["p99_us"] = self.latency.quantile(0.99)
        put.extra["max_us"] = self.latency.max_us
        put.seconds = max(self._seconds)
        return put

    def _check_some(self, store: QueueStore) -> Phase:
        plan = self.plan
        checks = plan.checks or min(plan.queues, 1_000_000)
        check = self._phase("check", checks, lambda n: self._check(store, n, checks), plan.readers)
        check.extra["blocks_read"] = store.statistics().blocks_read
        return check

    def _consume_chosen(self, store: QueueStore) -> Phase:
        chosen = self._chosen()
        before = store.statistics().blocks_read
        total = len(chosen) * self.rounds
        work = partial(self._consume, store, chosen=chosen)
        consume = self._phase("consume", total, work, self.plan.readers)
        consume.extra["blocks_read"] = store.statistics().blocks_read - before
        return consume

    def _phase(
        self, name: str, total: int, work: Callable[[int], tuple[int, int, int]], threads: int
    ) -> Phase:
        phase = Phase(name)
        failures: list[BaseException] = []

        def one(number: int) -> None:
            try:
                count, calls, bad = work(number)
                with self._lock:
                    phase.messages += count
                    phase.calls += calls
                    phase.wrong += bad
            except BaseException as error:
                failures.append(error)

        self._done = 0
        self.progress(name, 0, total)
        workers = [threading.Thread(target=one, args=(n,)) for n in range(threads)]
        started = time.perf_counter()
        for thread in workers:
            thread.start()
        for thread in workers:
            while thread.is_alive():
                thread.join(0.2)
                self.progress(name, self._done, total)
        phase.seconds = phase.wall_seconds = time.perf_counter() - started
        if failures:
            if isinstance(failures[0], DragomanError):
                raise failures[0]
            raise RuntimeError(f"the {name} phase failed") from failures[0]
        self.progress(name, total, total)
        return phase

    def _share(self, number: int, of: int, threads: int) -> range:
        return range(of * number // threads, of * (number + 1) // threads)

    def _put(self, store: QueueStore, number: int) -> tuple[int, int, int]:
        plan = self.plan
        mine = self._share(number, plan.queues, plan.threads)
        put, clock = store.put, time.perf_counter_ns
        done = calls = 0
        spent = 0
        for offset in range(self.rounds):
            for first in range(mine.start, mine.stop, STRETCH):
                names = self.names[first : min(first + STRETCH, mine.stop)]
                made = messages(plan.seed, first, len(names), offset, plan.size)
                if plan.api == "put":
                    with self._lock:
                        for name, message in zip(names[:SAMPLED], made, strict=False):
                            began = clock()
                            put(name, message)
                            self.latency.record((clock() - began) / 1000)
                    rest, to_put = names[SAMPLED:], made[SAMPLED:]
                    began = clock()
                    for name, message in zip(rest, to_put, strict=True):
                        put(name, message)
                    ended = clock()
                    # What was timed one by one counts at the same pace.
                    spent += (ended - began) * len(names) // max(1, len(rest))
                    calls += len(names)
                else:
                    batch = plan.batch
                    parts = [
                        (names[i : i + batch], made[i : i + batch])
                        for i in range(0, len(names), batch)
                    ]
                    began = clock()
                    for part in parts:
                        store.put_many(*part)
                    spent += clock() - began
                    calls += len(parts)
                done += len(names)
                self._done += len(names)
        self._seconds[number] = spent / 1e9
        return done, calls, 0

    def _check(self, store: QueueStore, number: int, checks: int) -> tuple[int, int, int]:
        plan = self.plan
        rng = random.Random(plan.seed + number)
        left = len(self._share(number, checks, plan.readers))
        count = calls = bad = 0
        last = max(1, self.rounds - BATCH + 1)
        while left:
            part = min(left, 4 * UNDER_WAY)
            left -= part
            numbers = [rng.randrange(plan.queues) for _ in range(part)]
            requests = [(self.names[n], rng.randrange(last), BATCH) for n in numbers]
            for n, request, got in zip(numbers, requests, store.get_many(requests), strict=True):
                expected = min(BATCH, self.rounds - request[1])
                bad += wrong(plan.seed, n, request[1], plan.size, expected, got)
                count += len(got)
            calls += part
            self._done += part
        return count, calls, bad

    def _chosen(self) -> list[int]:
        rng = random.Random(self.plan.seed)
        return rng.sample(range(self.plan.queues), int(self.plan.queues * self.plan.consume))

    def _consume(self, store: QueueStore, number: int, chosen: list[int]) -> tuple[int, int, int]:
        plan = self.plan
        share = self._share(number, len(chosen), plan.readers)
        mine = chosen[share.start : share.stop]
        names = self.names
        count = calls = bad = 0
        for first in range(0, len(mine), UNDER_WAY):
            window = mine[first : first + UNDER_WAY]
            for offset in range(0, self.rounds, BATCH):
                expected = min(BATCH, self.rounds - offset)
                requests = [(names[n], offset, BATCH) for n in window]
                for n, got in zip(window, store.get_many(requests), strict=True):
                    bad += wrong(plan.seed, n, offset, plan.size, expected, got)
                    count += len(got)
                calls += len(window)
            self._done += len(window) * self.rounds
        return count, calls, bad
