"""The server's process: ``python -m dragoman.bench.rpc.server CONTESTANT``.

Started by ``pair``. Writes its address as a line of JSON, then answers each line on its standard
input with the CPU seconds that it has used. The invariant: it never outlives the process that holds
its standard input.
"""

from __future__ import annotations

import os
import sys
import threading

import msgspec

from dragoman.bench.rpc.calling import cpu_now
from dragoman.bench.rpc.contestants import contestant


class Ready(msgspec.Struct):
    """The first line."""

    address: str


def main() -> None:
    """Run as a program."""

    def say(message: msgspec.Struct) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.buffer.flush()

    def answer() -> None:
        # A thread of its own, asleep but between measurements: a blocking server has no loop. It
        # reads the descriptor: a reader's lock held at the interpreter's end would be fatal.
        while os.read(0, 4096):
            say(cpu_now())
        os._exit(0)

    threading.Thread(target=answer, daemon=True).start()
    contestant(sys.argv[1]).run_server(lambda address: say(Ready(address)))


if __name__ == "__main__":
    main()
