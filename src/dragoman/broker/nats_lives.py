"""Which life of a queue on JetStream a consumer has read, so that it notices when that is another.

A queue that was deleted and made anew has another life in its records. One whose end was lost, and
that has grown again since, has the same; but the publication that a consumer read last is then not
where it was. Servers lose what they had not synced only when they go down, which breaks
connections: so it is looked at after one was made anew, and costs nothing otherwise. The invariant:
what is noticed is told before anything is read or committed.
"""

from __future__ import annotations

from dataclasses import dataclass

from dragoman.broker.nats_reader import Gone, Reader
from dragoman.broker.nats_records import Found
from dragoman.queue.api.consumer import lost_position


@dataclass(frozen=True, slots=True)
class Life:
    """``queue``: that of its records. ``by``: the publication that was read last, empty for none;
    ``connection``: how many times the store had connected again then."""

    queue: bytes
    by: bytes = b""
    connection: int = 0


async def check_life(
    reader: Reader, name: bytes, life: Life, position: int, last: Found | None
) -> None:
    """Raise PositionLostError if what is before ``position``, with the queue ending at ``last``, is
    not what was read.
    """
    if last is None or last.record.life != life.queue or last.record.end < position:
        return  # who reads on or commits is told
    reader.forget(name)
    try:
        found = await reader.locate(name, position - 1, last)
    except Gone:
        return  # it was trimmed: nobody can tell
    if found.record.by != life.by:
        raise lost_position(name, position, gone=False)
