"""How every fuzzer runs: from seed to seed for its seconds, and how its command line looks.

A fuzzer tries what one number, its seed, leads to; a fault names the seed, which leads there again.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Callable

# The input of a seed: raises when it is a fault, returns how many inputs it was, None for one.
Once = Callable[[int], int | None]


def attack(once: Once, *, seed: int, inputs: int = 0, seconds: float = 0) -> tuple[int, int]:
    """Try one seed after the other until ``inputs`` inputs were tried and ``seconds`` have passed;
    returns the next seed and how many inputs there were. A fault has its seed in a note."""
    until_s = time.monotonic() + seconds
    tried = 0
    while tried < inputs or time.monotonic() < until_s:
        try:
            tried += once(seed) or 1
        except BaseException as error:
            error.add_note(f"seed {seed} breaks it")
            raise
        seed += 1
    return seed, tried


def main(once: Once, description: str | None) -> None:
    """The command line of a fuzzer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--inputs", type=int, default=0, help="instead of the seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    # By a tenth of them memory has come to what it stays at.
    inputs, seconds = options.inputs, 0 if options.inputs else options.seconds
    seed, first = attack(once, seed=options.seed, inputs=inputs // 10, seconds=seconds / 10)
    settled = resident_kib()
    seed, rest = attack(once, seed=seed, inputs=inputs - first, seconds=seconds * 0.9)
    print(
        f"{first + rest} inputs, no fault; the next seed is {seed}; memory {settled} KiB after"
        f" {first} inputs, {resident_kib()} KiB at most"
    )


def resident_kib() -> int:
    """The most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
