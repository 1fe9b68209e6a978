"""Messages made beforehand: a ring of prepared parts that the queue benchmark puts again and again.

Called by ``queue`` and ``queue_peers``. The queues are taken in parts, and the ring has lists of
messages, a list for a part. Round after round the parts take one list after the other, so making
messages is in nobody's time. The invariants: the ring takes 64 MiB of messages, or a few lists
where a list alone is large; and its length is a prime that the parts of a round are no multiple of,
so a queue does not get the same message again before the whole ring has been through it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dragoman.bench.queue_load import messages, wrong

# How many lists the ring has when messages are small, and at the least. Of the primes up to 61
# there is always one that a number of parts below 10^24 is no multiple of.
PRIMES = [n for n in range(2, 62) if all(n % divisor for divisor in range(2, n))]
LISTS_LEAST = 3
# Bytes of the ring's messages, and the most of one list.
RING_BYTES = 1 << 26
# What every store is given to have in memory for its warm figures: so many messages, which are read
# so many times.
WARM_MESSAGES = 100_000
WARM_TIMES = 10
Place = tuple[int, int]  # a queue's number, and an offset in it


def length_of_ring(list_bytes: int, step: int) -> int:
    """How many lists of ``list_bytes`` the ring has when ``step`` parts make a round."""
    most = max(LISTS_LEAST, RING_BYTES // max(1, list_bytes))
    suited = [prime for prime in PRIMES if step % prime]
    return max((prime for prime in suited if prime <= most), default=suited[0])


@contextmanager
def apart() -> Iterator[None]:
    """While a phase is timed the garbage collector does not go through what was made before it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Ring:
    """The messages of all puts. ``step`` is the number of parts that the queues make."""

    def __init__(self, *, queues: int, part: int, size: int, seed: int) -> None:
        self.queues = queues
        self.part = part
        self.step = -(-queues // part)
        slots = length_of_ring(part * size, self.step)
        self.slots = [messages(seed, part, slot, size) for slot in range(slots)]
        rest = queues - (self.step - 1) * part
        self._last = [made[:rest] for made in self.slots]
        # wrong(queue, offset, count, got): how many of the messages are not what was put.
        self.wrong = partial(wrong, self.slots, part, self.step)

    def of(self, offset: int, number: int) -> list[bytes]:
        """The messages that part ``number`` of the queues gets at ``offset``."""
        lists = self._last if number == self.step - 1 else self.slots
        return lists[(offset * self.step + number) % len(lists)]
