"""``dragoman queue verify`` and ``repair``: what is damaged in a store, and what was lost of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.cli.queue.options import Path_
from dragoman.cli.queue.progress import ProgressLine
from dragoman.cli.queue.text import fields_of, say, several, shown
from dragoman.errors import CorruptionError

if TYPE_CHECKING:
    from dragoman.queue import Damage


def verify(
    path: Path_,
    json_out: Annotated[bool, typer.Option("--json", help="A JSON object a line")] = False,
) -> None:
    """Read a whole store and list what is not as it was written; exit code 1 if anything."""
    from dragoman import queue as queues

    with ProgressLine("verify") as progress:
        found = queues.verify(path, progress.of_bytes)
    _show_damage(found, json_out)
    if found:
        raise CorruptionError(f"{path}: {several(len(found), 'damaged place')}")
    if not json_out:
        say(f"{path}: every block is as it was written")


def repair(
    path: Path_,
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove damaged files instead of putting them aside")
    ] = False,
    json_out: Annotated[bool, typer.Option("--json", help="A JSON object a line")] = False,
) -> None:
    """Make a damaged store usable again, and list what was lost."""
    from dragoman import queue as queues

    with ProgressLine("repair") as progress:
        report = queues.repair(path, keep=not discard, progress=progress.of_bytes)
    _show_damage(report.lost, json_out)
    for line in report.done:
        say(line)
    if report.aside is not None:
        say(f"damaged files were moved to {report.aside}")
    lost = several(len(report.lost), "place") + " lost" if report.lost else "nothing was lost"
    say(f"{path}: {lost}")


def _show_damage(found: list[Damage], json_out: bool) -> None:
    for damage in found:
        if json_out:
            line: dict[str, Any] = {"file": damage.file, "offset": damage.offset}
            line |= fields_of(damage.queue, "queue") if damage.queue is not None else {}
            line |= {"first": damage.first, "messages": damage.messages, "reason": damage.reason}
            print(json.dumps(line, ensure_ascii=False))
            continue
        parts = []
        if damage.file:
            parts.append(f"{damage.file} at {damage.offset}")
        if damage.queue is not None:
            parts.append(f"queue {shown(damage.queue, 60)}")
        if damage.messages:
            last = damage.first + damage.messages - 1
            parts.append(
                f"offset {damage.first}"
                if damage.messages == 1
                else f"offsets {damage.first} to {last}"
            )
        print(f"{', '.join(parts)}: {damage.reason}" if parts else damage.reason)
