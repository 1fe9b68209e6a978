"""A link of a bounded rate with small buffers: a proxy in a process of its own.

``slow_link(port, rate)`` gives the port to connect to. Each direction of each connection passes
``rate`` bytes a second, and holds at most two buffers of 64 KiB.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# The kernel takes the double of what it is told.
BUFFER_BYTES = 32768
STEP_BYTES = 8192


def forward(source: socket.socket, to: socket.socket, rate: float) -> None:
    """Pass on what comes, at ``rate``."""
    due = time.monotonic()
    try:
        while data := source.recv(STEP_BYTES):
            now = time.monotonic()
            # A link that was idle, or a process that was not run, does not make up for it.
            due = max(due, now - 0.002) + len(data) / rate
            if due > now:
                time.sleep(due - now)
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        to.close()


def small(sock: socket.socket) -> socket.socket:
    """``sock`` with small buffers."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return sock


def run(port: int, rate: float) -> None:
    """Serve for ever; the port is printed."""
    listener = small(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    while True:
        came, _ = listener.accept()
        gone = small(socket.socket())
        gone.connect(("127.0.0.1", port))
        for one, other in ((came, gone), (gone, came)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=forward, args=(one, other, rate), daemon=True).start()


@contextmanager
def slow_link(port: int, rate: float = 20e6) -> Iterator[int]:
    """The port of a link to ``port`` for the length of a block."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(port), str(rate)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


if __name__ == "__main__":
    run(int(sys.argv[1]), float(sys.argv[2]))
