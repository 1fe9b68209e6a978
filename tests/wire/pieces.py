"""Cut a stream of bytes every way: whole, a byte at a time, and split at each place."""

from __future__ import annotations

from collections.abc import Iterator


def ways(data: bytes) -> Iterator[list[bytes]]:
    """Each way of receiving ``data``: a list of what comes at once."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]
