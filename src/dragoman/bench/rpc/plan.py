"""The plan of a run: its settings, and the works that they amount to.

Used by ``run`` and the command line. The invariant: what is outstanding at once is at most
``IN_FLIGHT_BYTES_MAX`` of bodies, however large they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dragoman.bench.rpc.contestant import Contestant, Work
from dragoman.bench.rpc.contestants import NAMES
from dragoman.errors import UsageError

SIZE_MAX = 2**20
BULK_BYTES = 4096
IN_FLIGHT_BYTES_MAX = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Shape:
    """A style of calling: ``in_flight`` calls at once, or batches of ``batch``."""

    words: str
    in_flight: int = 1
    batch: int = 1
    variant: str = ""


SHAPES: dict[str, tuple[Shape, ...]] = {
    "await": (Shape("1,000 tasks, each awaiting one call after the other", 1000),),
    "soon": (Shape("callbacks, 1,000 calls in flight", 1000),),
    "many": (
        Shape("batches of 100, 10 in flight", 10, 100, "100x10"),
        Shape("batches of 500, 4 in flight", 4, 500, "500x4"),
    ),
    "map": (Shape("iteration over replies, 1,000 calls in flight", 1000),),
    "notify": (Shape("calls without a reply, 1,000 and then one call that waits", 1000),),
    "lone": (Shape("one call at a time"),),
    "bulk": (Shape("bodies of 4 KiB in batches of 100, 10 in flight", 10, 100),),
}
IDLE = "idle"
STYLES = (*SHAPES, IDLE)


@dataclass(frozen=True, slots=True)
class Settings:
    """A run. ``size`` in bytes; ``seconds`` is one measurement, of which there are ``rounds``."""

    styles: tuple[str, ...] = STYLES
    sizes: tuple[int, ...] = (128,)
    connections: tuple[int, ...] = (1,)
    seconds: float = 2.0
    rounds: int = 3
    idle_connections: int = 10_000
    contestants: tuple[str, ...] = NAMES

    def __post_init__(self) -> None:
        _known("styles", self.styles, STYLES)
        _known("contestants", self.contestants, NAMES)
        _within("size", self.sizes, 0, SIZE_MAX)
        _within("connections", self.connections, 1, 1000)
        _within("seconds", (self.seconds,), 0.01, 600)
        _within("rounds", (self.rounds,), 1, 100)
        _within("idle-connections", (self.idle_connections,), 1, 100_000)

    def works(self) -> Iterator[Work]:
        """All measurements of a round, but for ``idle``."""
        for style, shapes in SHAPES.items():
            if style not in self.styles:
                continue
            for shape in shapes:
                for size in (BULK_BYTES,) if style == "bulk" else self.sizes:
                    for connections in (1,) if style == "lone" else self.connections:
                        yield self._work(style, shape, size, connections)

    def _work(self, style: str, shape: Shape, size: int, connections: int) -> Work:
        most = IN_FLIGHT_BYTES_MAX // max(1, size)
        batch = min(shape.batch, max(1, most // shape.in_flight))
        in_flight = max(connections, min(shape.in_flight, max(1, most // batch)))
        return Work(style, size, connections, in_flight, batch, self.seconds, shape.variant)


def takes_part(contestant: Contestant, work: Work) -> bool:
    """Whether the contestant can do this work."""
    return work.style in contestant.styles and (work.connections == 1 or not contestant.single)


def _known(option: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"--{option}: {name!r} is none of {', '.join(known)}")
    if not given:
        raise UsageError(f"--{option}: expected at least one of {', '.join(known)}")


def _within(option: str, given: tuple[float, ...], least: float, most: float) -> None:
    for value in given:
        if not least <= value <= most:
            raise UsageError(f"--{option} must be {least:,} to {most:,}, not {value:,}")
    if not given:
        raise UsageError(f"--{option}: expected at least one number")
