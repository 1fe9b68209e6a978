"""Workers that the supervisor's tests run: they serve their pid, and fail in the ways asked for.

The interface names in a ProviderConfig, or the policy of nothing else, tell a worker what to do;
see ``SCRIPT``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from dragoman.agent.config import ConsumerConfig
from dragoman.agent.listening import listening_socket
from dragoman.agent.worker import Worker
from dragoman.errors import UsageError
from dragoman.observe.histogram import Histogram
from dragoman.observe.metrics import Snapshot


class Served:
    """Answers every connection with the worker's pid and counts them."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.requests = 0
        self.latency = Histogram()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = (await reader.readline()).strip()
        if command == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        self.requests += 1
        self.latency.record(1000.0)
        writer.write(f"{os.getpid()} {self.worker.index}\n".encode())
        await writer.drain()
        writer.close()

    async def metrics(self) -> Snapshot:
        snapshot = Snapshot()
        snapshot.counter("dragoman_test_requests_total", self.requests, "Requests.")
        snapshot.gauge("dragoman_test_workers", 1, "One each.")
        snapshot.histogram("dragoman_test_seconds", self.latency, "Latency.")
        return snapshot

    async def status(self) -> dict[str, Any]:
        return {"requests": self.requests}


async def serve(config: ConsumerConfig, worker: Worker) -> None:
    served = Served(worker)
    worker.report(metrics=served.metrics, status=served.status)
    sock = listening_socket(config.listen, reuse_port=worker.count > 1)
    server = await asyncio.start_server(served.answer, sock=sock)
    async with server:
        worker.ready()
        await worker.stopping.wait()


async def never_ready(config: ConsumerConfig, worker: Worker) -> None:
    worker.not_ready("waiting for the registry")
    await worker.stopping.wait()


async def refuse(config: ConsumerConfig, worker: Worker) -> None:
    raise UsageError("cannot serve as configured")


async def crash(config: ConsumerConfig, worker: Worker) -> None:
    worker.ready()
    await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


async def raise_later(config: ConsumerConfig, worker: Worker) -> None:
    worker.ready()
    raise ValueError("a bug")


async def ignore_stop(config: ConsumerConfig, worker: Worker) -> None:
    worker.ready()
    await asyncio.Event().wait()
