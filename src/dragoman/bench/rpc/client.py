"""The client's process: ``python -m dragoman.bench.rpc.client CONTESTANT ADDRESS``.

Started by ``pair``, which sends commands, a line of JSON each, and gets a line for each. The
invariant: it never outlives the process that holds its standard input.
"""

from __future__ import annotations

import os
import select
import sys
import threading

import msgspec

from dragoman.bench.rpc.contestant import BenchError, Sample, Work
from dragoman.bench.rpc.contestants import contestant


class Command(msgspec.Struct):
    """``prepare`` with its work, ``measure`` or ``finish``."""

    name: str
    work: Work | None = None


class Answer(msgspec.Struct):
    """The outcome of a command; ``sample`` follows ``measure``."""

    error: str | None = None
    sample: Sample | None = None


def _end_with_conductor() -> None:
    """Wait, without reading, until nobody holds the other end of the standard input."""
    poll = select.poll()
    poll.register(0, 0)  # a hang-up is always told
    poll.poll()
    os._exit(1)


def main() -> None:
    """Run as a program."""
    threading.Thread(target=_end_with_conductor, daemon=True).start()
    caller = contestant(sys.argv[1]).caller(sys.argv[2])
    decode = msgspec.json.Decoder(Command).decode
    for line in sys.stdin.buffer:
        command = decode(line)
        answer = Answer()
        try:
            if command.work is not None:
                caller.prepare(command.work)
            elif command.name == "measure":
                answer.sample = caller.measure()
            else:
                caller.finish()
        except BenchError as error:
            answer.error = str(error)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
