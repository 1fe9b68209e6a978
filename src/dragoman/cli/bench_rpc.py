"""``dragoman bench rpc``: options to settings, the run, its progress, tables, JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from dragoman.bench.rpc.plan import Settings

WIDTH = 120


def rpc(
    *,
    styles: Annotated[
        str | None,
        typer.Option(
            help="Of await, soon, many, map, notify, lone, bulk, idle, with commas between "
            "(default: all).",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Bytes of a body, 0 to 1048576; several with commas between.")
    ] = "128",
    connections: Annotated[
        str, typer.Option(help="Connections; several numbers with commas between.")
    ] = "1",
    seconds: Annotated[float, typer.Option(help="Seconds of one measurement.")] = 2.0,
    rounds: Annotated[int, typer.Option(help="Rounds; the table shows their median.")] = 3,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Beside it, in the same run: the prototype, bare sockets, and what one would use "
            "instead where it is installed.",
        ),
    ] = False,
    contestants: Annotated[
        str | None,
        typer.Option(help="These instead, by name, with commas between.", show_default=False),
    ] = None,
    idle_connections: Annotated[int, typer.Option(help="Connections of the style idle.")] = 10_000,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the report to FILE.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure the RPC library, a client and a server process on this machine, in each style.

    Each measurement is repeated in rounds, in which all contestants take turns. Figures of one run
    may be compared with each other, not with those of another.
    """
    from dragoman.bench.rpc.contestants import NAMES
    from dragoman.bench.rpc.plan import STYLES, Settings
    from dragoman.bench.rpc.run import RpcBench

    chosen = NAMES if peers else NAMES[:1]
    settings = Settings(
        styles=_names(styles) if styles is not None else STYLES,
        sizes=_numbers("size", size),
        connections=_numbers("connections", connections),
        seconds=seconds,
        rounds=rounds,
        idle_connections=idle_connections,
        contestants=_names(contestants) if contestants is not None else chosen,
    )
    if json_file is not None:
        _check_file(json_file)
    with _Progress() as progress:
        report = RpcBench(settings, progress.tell).run()
    report["command"] = " ".join(["dragoman", *sys.argv[1:]])
    show(report, settings)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    if report["failed"]:
        for what, reason in report["failed"].items():
            typer.echo(f"dragoman: bench rpc: {what}: {reason}", err=True)
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("rpc")(rpc)


class _Progress:
    """One live line on a terminal, nothing elsewhere; without a thread, which would disturb."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("bench rpc", total=1.0)

    def __enter__(self) -> _Progress:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def tell(self, share: float, text: str) -> None:
        if self._console.is_terminal:
            self._progress.update(self._task, completed=share, description=text, refresh=True)


def show(report: dict[str, Any], settings: Settings, console: Console | None = None) -> None:
    """Print a table for each style, and what was skipped."""
    from rich.console import Console

    from dragoman.bench.rpc.plan import SHAPES

    if console is None:
        console = Console(highlight=False, emoji=False)
        if not console.is_terminal:
            console = Console(highlight=False, emoji=False, width=WIDTH)
    machine = report["machine"]
    console.print(f"{machine['cores']} cores, {machine['cpu']}; client and server in two processes")
    console.print(
        f"median and best of {settings.rounds} rounds of {settings.seconds:g} s; "
        "CPU of client and server in microseconds a call\n"
    )
    for style, shapes in SHAPES.items():
        for shape in shapes:
            found = [
                each
                for each in report["results"]
                if each["style"] == style and each["variant"] == shape.variant
            ]
            if found:
                console.print(_table_of(style, shape.words, found))
    if report["idle"]:
        console.print(_idle_table(report["idle"]))
    for name, reason in report["skipped"].items():
        console.print(f"skipped {name}: {reason}")


def _table_of(style: str, words: str, found: list[dict[str, Any]]) -> Table:
    """The contestants' figures in one style."""
    lone = style == "lone"
    columns = ["p50 us", "p90", "p99", "p99.9"] if lone else ["conns", "calls/s", "best", "MiB/s"]
    columns += [f"{side}\n{kind}" for side in ("client", "server") for kind in ("user", "sys")]
    references = list(dict.fromkeys(name for each in found for name in each["compared"]))
    columns += [f"to {name}".replace("-", "\n", 1) for name in references]
    table = _table(f"{style}: {words}", "bytes", *columns)
    for each in found:
        if lone:
            latency = each["latency_us"]
            cells = [_micros(latency[name]) for name in ("p50", "p90", "p99", "p99_9")]
        else:
            cells = [f"{each['connections']:,}"]
            cells += [f"{each['calls_per_s'][name]:,.0f}" for name in ("median", "best")]
            cells.append(f"{each['mib_per_s']['median']:,.0f}")
        cells += _cpu(each)
        cells += [_ratio(each["compared"].get(name)) for name in references]
        table.add_row(_title(each), f"{each['size']:,}", *cells)
    return table


def _idle_table(found: list[dict[str, Any]]) -> Table:
    title = "idle: KiB of resident memory a connection"
    table = _table(title, "connections", "server", "client")
    for each in found:
        sizes = (each["bytes_each"][side] / 1024 for side in ("server", "client"))
        table.add_row(_title(each), f"{each['connections']:,}", *(f"{size:.1f}" for size in sizes))
    return table


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("", justify="left", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cpu(each: dict[str, Any]) -> list[str]:
    used = each["cpu_us_per_call"]
    figures = [used[side][kind] for side in ("client", "server") for kind in ("user", "system")]
    return [_micros(figure) for figure in figures]


def _micros(figure: float) -> str:
    """Three digits at least, without pretending to more than four."""
    return f"{figure:,.{0 if figure >= 1000 else 1 if figure >= 10 else 2}f}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def _title(each: dict[str, Any]) -> str:
    from dragoman.bench.rpc.contestants import contestant

    return contestant(each["contestant"]).title


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_file(path: Path) -> None:
    """Better now than after minutes of measuring."""
    if not path.parent.is_dir():
        raise UsageError(f"--json {path}: no such directory")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"--json {path}: cannot be written")


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--{option} {text!r}: expected numbers with commas between, as in 0,128,4096"
        ) from None
