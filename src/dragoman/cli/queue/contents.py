"""``dragoman queue stat``: what a store holds."""

from __future__ import annotations

import dataclasses
import json
from itertools import islice
from typing import Annotated, Any

import typer

from dragoman.cli.queue.options import Where
from dragoman.cli.queue.stores import must_exist, reading
from dragoman.cli.queue.text import argument_bytes, fields_of, several, shown, size_text

# A queue's name, first offset, length and groups.
Row = tuple[bytes, int, int, dict[bytes, int]]


def stat(
    where: Where,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUEUE",
            help="Queues to look at  \\[default: the first 20]",
            show_default=False,
        ),
    ] = None,
    queues: Annotated[
        int, typer.Option(min=0, help="How many queues to list when none is named")
    ] = 20,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object")] = False,
) -> None:
    """Show what a store holds, and some or all of its queues."""
    with reading(where) as store:
        counts = dataclasses.asdict(store.statistics())  # type: ignore[call-overload]
        chosen = [argument_bytes(name) for name in names or ()]
        for own in chosen:
            must_exist(store, own)
        listed = chosen or list(islice(store.queues(), queues))
        rows = [
            (own, store.first_offset(own), store.length(own), store.groups(own)) for own in listed
        ]
    if json_out:
        _print_json(counts, rows)
        return
    _show_store(where, counts)
    _show_queues(rows, 0 if chosen else counts["queues"] - len(rows))


def _print_json(counts: dict[str, Any], rows: list[Row]) -> None:
    described = [
        {
            **fields_of(own, "name"),
            "first_offset": first,
            "length": length,
            "groups": [
                {**fields_of(group, "name"), "position": position, "behind": length - position}
                for group, position in sorted(groups.items())
            ],
        }
        for own, first, length, groups in rows
    ]
    print(json.dumps({"store": counts, "queues": described}, ensure_ascii=False, default=str))


def _show_store(where: str, counts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    inside = counts.get("store") or counts
    parts = [several(counts["queues"], "queue")]
    for key, what in (
        ("log_bytes", "in segments"),
        ("tail_bytes", "in tails"),
        ("bytes", "in the stream"),
    ):
        if key in inside:
            parts.append(f"{size_text(inside[key])} {what}")
    if "messages" in inside:
        parts.append(several(inside["messages"], "message"))
    if inside.get("poisoned"):
        parts.append("poisoned: a sync has failed, nothing is acknowledged any more")
    if "replicas" in inside:
        parts.append(several(inside["replicas"], "replica"))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{escape(where)}: {', '.join(parts)}")


def _show_queues(rows: list[Row], more: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("queue", overflow="fold")
    for column in ("messages", "first offset", "next offset"):
        table.add_column(column, justify="right")
    table.add_column("groups: position (behind)", overflow="fold")
    for own, first, length, groups in rows:
        told = [
            f"{shown(group, 40)}: {position:,} ({length - position:,})"
            for group, position in sorted(groups.items())
        ]
        table.add_row(
            Text(shown(own, 60)),
            f"{length - first:,}",
            f"{first:,}",
            f"{length:,}",
            Text("\n".join(told)),
        )
    console = Console(highlight=False)
    console.print(table)
    if more > 0:
        console.print(f"and {several(more, 'more queue')}: name them, or use --queues")
