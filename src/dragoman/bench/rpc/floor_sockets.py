"""The floor: what two plain blocking TCP sockets do, with nothing above them.

Nobody who uses sockets can be below its latency (``lone``); ``bulk`` is what a connection moves
there and back. The invariant: what comes back is counted to the byte.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable

from dragoman.bench.rpc.calling import cpu_now
from dragoman.bench.rpc.contestant import HOST, BenchError, Cpu, Sample, Work
from dragoman.bench.rpc.latency import summary

READ_BYTES = 256 * 1024
# What the kernel surely buffers on the way.
PIECE_BYTES = 64 * 1024


class FloorSockets:
    """See the module and ``Contestant``."""

    name = "floor-sockets"
    title = "bare blocking sockets"
    styles = frozenset({"lone", "bulk"})
    single = True

    def missing(self) -> str | None:
        """See ``Contestant``."""
        return None

    def run_server(self, ready: Callable[[str], None]) -> None:
        """See ``Contestant``."""
        with socket.create_server((HOST, 0)) as listener:
            ready(f"{HOST}:{listener.getsockname()[1]}")
            buffer = memoryview(bytearray(READ_BYTES))
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with connection:
                    while count := connection.recv_into(buffer):
                        connection.sendall(buffer[:count])

    def caller(self, address: str) -> SocketsCaller:
        """See ``Contestant``."""
        return SocketsCaller(address)


class SocketsCaller:
    """See ``BenchCaller``."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))

    def prepare(self, work: Work) -> None:
        """See ``BenchCaller``."""
        self._work = work
        self._socket = socket.create_connection(self._address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._check()
        self._body = os.urandom(max(work.size, 1))  # no body at all could not come back
        run = self._lone if work.style == "lone" else self._bulk
        started_s = time.perf_counter()
        rounds = 10
        run(rounds)
        while (took_s := time.perf_counter() - started_s) < min(0.15, work.seconds / 4):
            started_s = time.perf_counter()
            rounds *= 3
            run(rounds)
        self._rounds = max(1, round(rounds * work.seconds / took_s))

    def measure(self) -> Sample:
        """See ``BenchCaller``."""
        work = self._work
        run = self._lone if work.style == "lone" else self._bulk
        before = cpu_now()
        started_s = time.perf_counter()
        latencies = run(self._rounds)
        seconds = time.perf_counter() - started_s
        after = cpu_now()
        cpu = Cpu(after.user_s - before.user_s, after.system_s - before.system_s)
        calls = self._rounds * work.in_flight * work.batch
        return Sample(calls, seconds, cpu, summary(latencies) if latencies else None)

    def finish(self) -> None:
        """See ``BenchCaller``."""
        self._socket.close()

    def _check(self) -> None:
        sent = os.urandom(100_000)
        writer = threading.Thread(target=self._socket.sendall, args=(sent,), daemon=True)
        writer.start()
        came = b""
        while len(came) < len(sent):
            came += _some(self._socket)
        writer.join()
        if came != sent:
            raise BenchError("what came back differs from what was sent")

    def _lone(self, rounds: int) -> list[int]:
        connection, body = self._socket, self._body
        size = len(body)
        clock_ns = time.perf_counter_ns
        took_ns = [0] * rounds
        before_ns = clock_ns()
        for index in range(rounds):
            missing = size
            if size <= PIECE_BYTES:
                connection.sendall(body)
            else:
                missing -= self._send_reading(body)
            while missing:
                missing -= len(_some(connection))
            now_ns = clock_ns()
            took_ns[index] = now_ns - before_ns
            before_ns = now_ns
        return took_ns

    def _send_reading(self, body: bytes) -> int:
        """Send, and read what comes meanwhile; how much came.

        A server that cannot write does not read: with more than the kernel buffers both ends would
        wait for each other.
        """
        connection = self._socket
        unsent = memoryview(body)
        came = 0
        while unsent:
            readable, writable, _ = select.select([connection], [connection], [])
            if writable:
                unsent = unsent[connection.send(unsent[:PIECE_BYTES], socket.MSG_DONTWAIT) :]
            if readable:
                came += len(_some(connection))
        return came

    def _bulk(self, rounds: int) -> list[int]:
        """A thread writes, this one reads: both directions are always full."""
        work = self._work
        chunk = self._body * work.batch
        chunks = rounds * work.in_flight

        def write() -> None:
            for _ in range(chunks):
                self._socket.sendall(chunk)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        buffer = bytearray(READ_BYTES)
        missing = len(chunk) * chunks
        while missing:
            count = self._socket.recv_into(buffer)
            if not count:
                raise BenchError("the server has closed the connection")
            missing -= count
        writer.join()
        return []


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(READ_BYTES)
    if not data:
        raise BenchError("the server has closed the connection")
    return data
