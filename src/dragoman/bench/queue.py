"""The contest's second round on this machine: put everything, look anywhere, consume in order.

Called by ``dragoman bench queue``. Over one store all messages are put, round after round over all
queues; ranges of ten are read at random places; a part of the queues is read through in batches of
ten; and then a few queues that memory holds are read in both ways again and again. Every message
that is read is compared with what was put. The invariant: a phase's time is wall time. Messages are
made before it begins (``queue_ring``), the puts end when all of them are on the disk, and comparing
is part of reading.
"""

from __future__ import annotations

import random
import resource
import shutil
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dragoman.bench.queue_ring import RING_BYTES, WARM_MESSAGES, WARM_TIMES, Place, Ring, apart
from dragoman.errors import DragomanError, UsageError
from dragoman.observe.histogram import Histogram
from dragoman.queue import QueueStore

BATCH = 10
# How many queues one thread has under way while it reads.
UNDER_WAY = 512
# Messages of a part of the ring when each is put by a call of its own.
PART = 1000
# Of every so many parts the first puts are also timed one by one.
SAMPLED_PARTS = 20
SAMPLED = 100
# Messages a queue that other stores are given.
PEER_ROUNDS = 20
Progress = Callable[[str, int, int], None]
# What a thread of a phase has done: messages, calls, how many were wrong, seconds in calls.
Work = tuple[int, int, int, float]


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
        if self.batch < 1 or self.batch * self.size > RING_BYTES:
            raise UsageError("--batch is at least 1, and its messages have 64 MiB at most")
        if not 1 <= self.readers <= 256:
            raise UsageError("--readers is 1 to 256")
        if not 0 <= self.consume <= 1:
            raise UsageError("--consume is a share between 0 and 1")
        if self.peers and self.peer_messages < PEER_ROUNDS:
            raise UsageError(f"--peer-messages is at least {PEER_ROUNDS}")
        return self


@dataclass
class Phase:
    """One phase: how many messages in how many seconds of wall time, and how many were wrong.

    Of ``seconds`` the last ``backlog_seconds`` went by after the last call, until everything was on
    the disk. ``call_seconds``: in calls of the store, by the thread that was longest in them.
    """

    name: str
    messages: int = 0
    calls: int = 0
    seconds: float = 0.0
    backlog_seconds: float = 0.0
    call_seconds: float = 0.0
    wrong: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Messages a second of wall time."""
        return self.messages / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "messages_per_second": self.rate}


def resident_bytes() -> int:
    """The process's resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class QueueBench:
    """One run. ``run`` gives the report as a dictionary; ``progress`` hears of each stretch, and
    ``clock`` tells seconds."""

    def __init__(
        self, plan: Plan, progress: Progress, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.plan = plan.checked()
        self.progress = progress
        self.clock = clock
        self.names = [b"queue-%07d" % number for number in range(plan.queues)]
        self.rounds = plan.messages // plan.queues
        part = min(plan.batch if plan.api == "put_many" else PART, -(-plan.queues // plan.threads))
        part = max(1, min(part, RING_BYTES // max(1, plan.size)))
        self.ring = Ring(queues=plan.queues, part=part, size=plan.size, seed=plan.seed)
        self.parts = [self.names[at : at + part] for at in range(0, plan.queues, part)]
        self.latency = Histogram()
        self._done = 0
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
                warm = self._warm(store)
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
        score = sum(p.messages for p in phases) / sum(p.seconds for p in phases)
        phases += warm
        in_blocks = max(1, after_put["messages_in_blocks"])
        return {
            "plan": {**asdict(plan), "path": str(plan.path)},
            "phases": {phase.name: phase.as_dict() for phase in phases},
            "score": score,
            "puts_end": "on the disk (sync)",
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
                "puts_end": own["puts_end"],
                "put_per_second": phases["put"]["messages_per_second"],
                "put_call_seconds": phases["put"]["call_seconds"],
                "put_seconds": phases["put"]["seconds"],
                "resident_bytes": own["memory"]["resident_bytes"],
                "disk_bytes": own["disk_bytes_closed"],
                **{
                    f"{name}_gets_per_second": phases[of]["calls"] / phases[of]["seconds"]
                    for name, of in (("cold", "check"), ("warm", "warm_check"))
                },
                **{
                    f"{name}_consumed_per_second": phases[of]["messages_per_second"]
                    for name, of in (("cold", "consume"), ("warm", "warm_consume"))
                },
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
        put = self._phase(
            "put", total, lambda n: self._put(store, n), plan.threads, settle=store.sync
        )
        put.extra["p50_us"] = self.latency.quantile(0.5)
        put.extra["p99_us"] = self.latency.quantile(0.99)
        put.extra["max_us"] = self.latency.max_us
        return put

    def _check_some(self, store: QueueStore) -> Phase:
        checks = self.plan.checks or min(self.plan.queues, 1_000_000)
        return self._read_all(
            "check", store, checks, lambda n: self._anywhere(range(self.plan.queues), n, checks)
        )

    def _consume_chosen(self, store: QueueStore) -> Phase:
        plan = self.plan
        chosen = random.Random(plan.seed).sample(
            range(plan.queues), int(plan.queues * plan.consume)
        )
        calls = len(chosen) * len(range(0, self.rounds, BATCH))
        return self._read_all("consume", store, calls, lambda n: self._in_order(chosen, n))

    def _warm(self, store: QueueStore) -> list[Phase]:
        # What memory holds: it has been read before, and is no more than the store's cache takes.
        plan = self.plan
        count = max(1, min(plan.queues, WARM_MESSAGES // self.rounds))
        few = random.Random(plan.seed + 1).sample(range(plan.queues), count)
        calls = WARM_TIMES * count * len(range(0, self.rounds, BATCH))
        for number in range(plan.readers):
            self._read(store, self._in_order(few, number))
        return [
            self._read_all("warm_check", store, calls, lambda n: self._anywhere(few, n, calls)),
            self._read_all(
                "warm_consume", store, calls, lambda n: self._in_order(few, n, WARM_TIMES)
            ),
        ]

    def _read_all(
        self,
        name: str,
        store: QueueStore,
        calls: int,
        places: Callable[[int], Iterator[list[Place]]],
    ) -> Phase:
        windows = [places(number) for number in range(self.plan.readers)]
        before = store.statistics().blocks_read
        phase = self._phase(name, calls, lambda n: self._read(store, windows[n]), self.plan.readers)
        phase.extra["blocks_read"] = store.statistics().blocks_read - before
        return phase

    def _phase(
        self,
        name: str,
        total: int,
        work: Callable[[int], Work],
        threads: int,
        settle: Callable[[], None] | None = None,
    ) -> Phase:
        phase = Phase(name)
        failures: list[BaseException] = []

        def one(number: int) -> None:
            try:
                count, calls, bad, spent = work(number)
                with self._lock:
                    phase.messages += count
                    phase.calls += calls
                    phase.wrong += bad
                    phase.call_seconds = max(phase.call_seconds, spent)
            except BaseException as error:
                failures.append(error)

        self._done = 0
        self.progress(name, 0, total)
        workers = [threading.Thread(target=one, args=(n,)) for n in range(threads)]
        with apart():
            started = self.clock()
            for thread in workers:
                thread.start()
            for thread in workers:
                while thread.is_alive():
                    thread.join(0.2)
                    self.progress(name, self._done, total)
            called = self.clock()
            if settle is not None and not failures:
                settle()
                phase.backlog_seconds = self.clock() - called
        phase.seconds = called - started + phase.backlog_seconds
        if failures:
            if isinstance(failures[0], DragomanError):
                raise failures[0]
            raise RuntimeError(f"the {name} phase failed") from failures[0]
        self.progress(name, total, total)
        return phase

    def _share(self, number: int, of: int, threads: int) -> range:
        return range(of * number // threads, of * (number + 1) // threads)

    def _put(self, store: QueueStore, number: int) -> Work:
        plan, ring, clock = self.plan, self.ring, self.clock
        mine = self._share(number, ring.step, plan.threads)
        done = calls = 0
        spent = 0.0
        for offset in range(self.rounds):
            for part in mine:
                names, made = self.parts[part], ring.of(offset, part)
                began = clock()
                if plan.api == "put_many":
                    store.put_many(names, made)
                    calls += 1
                elif part % SAMPLED_PARTS == 0:
                    self._put_sampled(store, names, made)
                    calls += len(names)
                else:
                    self._put_each(store, names, made)
                    calls += len(names)
                spent += clock() - began
                done += len(names)
                self._done += len(names)
        return done, calls, 0, spent

    def _put_each(self, store: QueueStore, names: list[bytes], made: list[bytes]) -> None:
        put = store.put
        for name, message in zip(names, made, strict=True):
            put(name, message)

    def _put_sampled(self, store: QueueStore, names: list[bytes], made: list[bytes]) -> None:
        put, clock = store.put, time.perf_counter_ns
        with self._lock:
            for name, message in zip(names[:SAMPLED], made[:SAMPLED], strict=True):
                began = clock()
                put(name, message)
                self.latency.record((clock() - began) / 1000)
        self._put_each(store, names[SAMPLED:], made[SAMPLED:])

    def _read(self, store: QueueStore, windows: Iterable[list[Place]]) -> Work:
        names, rounds, clock, wrong = self.names, self.rounds, self.clock, self.ring.wrong
        count = calls = bad = 0
        spent = 0.0
        for window in windows:
            requests = [(names[queue], offset, BATCH) for queue, offset in window]
            began = clock()
            results = store.get_many(requests)
            spent += clock() - began
            for (queue, offset), got in zip(window, results, strict=True):
                bad += wrong(queue, offset, min(BATCH, rounds - offset), got)
                count += len(got)
            calls += len(window)
            self._done += len(window)
        return count, calls, bad, spent

    def _anywhere(
        self, queues: range | list[int], number: int, checks: int
    ) -> Iterator[list[Place]]:
        # A reader's share of so many random places, all of them chosen before the first is read.
        rng = random.Random(self.plan.seed + number)
        mine = len(self._share(number, checks, self.plan.readers))
        last = max(1, self.rounds - BATCH + 1)
        chosen = array("I", (rng.choice(queues) for _ in range(mine)))
        offsets = array("I", (rng.randrange(last) for _ in range(mine)))
        window = 4 * UNDER_WAY
        return (
            list(zip(chosen[at : at + window], offsets[at : at + window], strict=True))
            for at in range(0, mine, window)
        )

    def _in_order(self, queues: list[int], number: int, times: int = 1) -> Iterator[list[Place]]:
        # A reader's share of the queues, each read through from its beginning.
        share = self._share(number, len(queues), self.plan.readers)
        mine = queues[share.start : share.stop]
        for _ in range(times):
            for first in range(0, len(mine), UNDER_WAY):
                window = mine[first : first + UNDER_WAY]
                for offset in range(0, self.rounds, BATCH):
                    yield [(queue, offset) for queue in window]
