"""How fast groups that share work are: ``python -m benchmarks.workers``.

50-byte messages of one queue, taken in batches with one ``ack`` a batch, on a ``QueueStore`` of
this process (one thread, and eight) and on one that ``dragoman queue serve`` serves to eight
processes. Each message is counted, and the group's position compared at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.broker import message, served
from dragoman import broker
from dragoman.queue import MessageStore, QueueStore

TOGETHER = 10_000


def fill(store: MessageStore, count: int) -> None:
    """Put ``count`` messages to the queue."""
    for first in range(0, count, TOGETHER):
        store.put_many("work", [message(first + i) for i in range(min(TOGETHER, count - first))])
    store.sync()


def work(store: MessageStore, batch: int, done: list[int]) -> None:
    """Take and acknowledge until there is nothing left."""
    workers = store.workers("work", "bench", attempts_max=5, dead_letter="dead")
    count = 0
    while messages := workers.take(batch):
        count += workers.ack(messages)
    done.append(count)


def local(place: Path, count: int, batch: int, durability: str, threads: int) -> float:
    """Messages a second in this process."""
    with QueueStore(place, durability=durability) as store:
        fill(store, count)
        done: list[int] = []
        pool = [threading.Thread(target=work, args=(store, batch, done)) for _ in range(threads)]
        began = time.perf_counter()
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        seconds = time.perf_counter() - began
        assert sum(done) == count == store.committed("work", "bench")
        return count / seconds


def remote(place: Path, count: int, batch: int, durability: str, processes: int) -> float:
    """Messages a second of ``processes`` that work on a served store."""
    with served(place, durability) as where, broker.open_store(where) as store:
        fill(store, count)
        command = [sys.executable, "-m", "benchmarks.workers", "--worker", where]
        command += ["--batch", str(batch)]
        pool = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        for each in pool:
            assert each.stdout is not None and each.stdout.readline() == "ready\n"
        began = time.perf_counter()
        for each in pool:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        done = [int(each.communicate()[0]) for each in pool]
        seconds = time.perf_counter() - began
        assert sum(done) == count == store.committed("work", "bench")
        return count / seconds


def worker(where: str, batch: int) -> None:
    """One of the processes."""
    done: list[int] = []
    with broker.open_store(where) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        work(store, batch, done)
    print(done[0])


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--durability", default="interval")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    count, batch, durability = arguments.messages, arguments.batch, arguments.durability
    if arguments.worker is not None:
        worker(arguments.worker, batch)
        return
    with tempfile.TemporaryDirectory(prefix="dragoman-workers-") as place:
        root = Path(place)
        for threads in (1, 8):
            rate = local(root / f"local{threads}", count, batch, durability, threads)
            print(f"in process, {threads} threads, batches of {batch}: {rate:12,.0f}/s")
        rate = remote(root / "served", count // 2, batch, durability, 8)
        print(f"served, 8 processes, batches of {batch}: {rate:12,.0f}/s")


if __name__ == "__main__":
    main()
