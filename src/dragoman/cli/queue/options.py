"""Arguments and options that several commands of ``dragoman queue`` take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dragoman.cli.queue.text import Form
from dragoman.errors import UsageError

Where = Annotated[
    str, typer.Argument(metavar="WHERE", help="Where the store is", show_default=False)
]
Path_ = Annotated[Path, typer.Argument(metavar="PATH", help="The store's directory")]
Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name")]
Json = Annotated[
    bool, typer.Option("--json", help="A JSON object a line; bytes that are no UTF-8 as base64")
]
Raw = Annotated[bool, typer.Option("--raw", help="The messages' bytes and nothing between")]
Frames = Annotated[
    bool, typer.Option("--frames", help="Each message after its length, 4 bytes little-endian")
]
Durability = Annotated[
    str | None,
    typer.Option(help="none, interval(MS) or always, for a directory  \\[default: interval(100)]"),
]


def form_of(json_lines: bool, raw: bool, frames: bool) -> Form:
    """The form of output that options ask for; raises UsageError for more than one."""
    forms: tuple[tuple[Form, bool], ...] = (("json", json_lines), ("raw", raw), ("frames", frames))
    chosen = [form for form, on in forms if on]
    if len(chosen) > 1:
        raise UsageError(f"choose one of --{' and --'.join(chosen)}")
    return chosen[0] if chosen else "text"
