"""``dragoman queue export`` and ``import``: queues to a file or pipe, and from one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from dragoman.cli.queue.options import Durability, Where
from dragoman.cli.queue.progress import ProgressLine
from dragoman.cli.queue.stores import perhaps_new, reading
from dragoman.cli.queue.text import argument_bytes, say, several, size_text
from dragoman.errors import UsageError

if TYPE_CHECKING:
    from dragoman.broker.exchange import Moved


def export(
    where: Where,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to; - is standard output")
    ] = Path("-"),
    queues: Annotated[
        list[str] | None,
        typer.Option(
            "--queue", "-q", metavar="QUEUE", help="This queue, again for more  \\[default: all]"
        ),
    ] = None,
) -> None:
    """Write queues with their offsets and groups to a checksummed file or pipe."""
    from dragoman.broker.exchange import export_queues

    names = [argument_bytes(name) for name in queues] if queues else None
    if str(file) == "-" and sys.stdout.isatty():
        raise UsageError("an export is binary: give a FILE, or pipe standard output")
    with reading(where) as store, ProgressLine("export") as line, _written(file) as stream:
        moved = export_queues(store, stream, names, line.moved)
    _say_moved("exported", moved)


@contextlib.contextmanager
def _written(file: Path) -> Iterator[BinaryIO]:
    """Standard output for ``-``; else a file that is there as a whole or not at all."""
    if str(file) == "-":
        yield sys.stdout.buffer
        return
    try:
        part = file.with_name(file.name + ".part")
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None


def import_(
    where: Where,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where from; - is standard input")
    ] = Path("-"),
    durability: Durability = None,
) -> None:
    """Put the queues of an export into a store that has none of them, offsets and groups kept."""
    from dragoman.broker.exchange import import_queues

    options = {"durability": durability} if durability is not None else {}
    try:
        stream = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    with stream, perhaps_new(where, **options) as store, ProgressLine("import") as line:
        moved = import_queues(store, stream, line.moved)
    _say_moved("imported", moved)


def _say_moved(done: str, moved: Moved) -> None:
    say(
        f"{done} {several(moved.queues, 'queue')}, {several(moved.messages, 'message')}, "
        f"{size_text(moved.bytes)}"
    )
