"""``dragoman bench queue``: options to a plan, progress, the table of what was measured."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.errors import DragomanError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

# Columns of the tables where there is no terminal.
WIDTH = 160


class MessagesWrong(DragomanError):
    """Messages came back other than they were put."""


def queue(
    *,
    queues: Annotated[int, typer.Option(help="Queues")] = 1_000_000,
    messages: Annotated[int, typer.Option(help="Messages in all")] = 100_000_000,
    size: Annotated[int, typer.Option(help="Bytes of each message")] = 50,
    threads: Annotated[int, typer.Option(help="Threads that put")] = 1,
    readers: Annotated[int, typer.Option(help="Threads that check and consume")] = 4,
    api: Annotated[str, typer.Option(help="put (a call a message) or put_many")] = "put",
    batch: Annotated[int, typer.Option(help="Messages of one put_many")] = 1000,
    durability: Annotated[str, typer.Option(help="none, interval(ms) or always")] = "none",
    memory_mib: Annotated[
        int, typer.Option("--memory-mib", help="What the store may use, MiB")
    ] = 1335,
    checks: Annotated[
        int, typer.Option(help="Random reads (0: one a queue, 1 million at most)")
    ] = 0,
    consume: Annotated[float, typer.Option(help="Share of the queues that is read through")] = 0.2,
    path: Annotated[
        Path | None, typer.Option(help="Directory of the store, empty or new (default: temporary)")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the store there")] = False,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also lmdb, rocksdict and sqlite3, where installed")
    ] = False,
    peer_messages: Annotated[
        int, typer.Option(help="Messages that each of the peers gets, and this store beside them")
    ] = 5_000_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures to FILE")] = None,
) -> None:
    """Put, look up at random, consume in order: the contest's second round, all content checked."""
    from dragoman.bench.queue import Plan, QueueBench

    if keep and path is None:
        raise UsageError("--keep needs --path")
    directory = path or Path(tempfile.mkdtemp(prefix="dragoman-queue-"))
    plan = Plan(
        directory,
        queues=queues,
        messages=messages,
        size=size,
        threads=threads,
        readers=readers,
        api=api,
        batch=batch,
        durability=durability,
        memory_bytes=memory_mib << 20,
        checks=checks,
        consume=consume,
        keep=keep,
        peers=peers,
        peer_messages=peer_messages,
    )
    with _Display() as display:
        report = QueueBench(plan, display.progress).run()
    _show(report)
    if report["peers"]:
        _show_peers(report["peers"])
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2, default=str) + "\n")
    if report["wrong"]:
        raise MessagesWrong(f"{report['wrong']} messages were not what had been put")


class _Display:
    """One live line on a terminal, a plain line each few seconds elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("bench queue", total=None)
        self._shown_s = 0.0

    def __enter__(self) -> _Display:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def progress(self, phase: str, done: int, total: int) -> None:
        """Show how far the phase has come."""
        self._bar.update(self._task, description=phase, completed=done, total=total)
        now_s = time.monotonic()
        if not self._console.is_terminal and (now_s - self._shown_s > 5 or done == total):
            self._shown_s = now_s
            self._console.print(f"bench queue: {phase} {done:,} of {total:,}")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    # Elsewhere than on a terminal lines may be as long as the tables are wide.
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="dragoman bench queue")
    columns = ("phase", "messages", "wall s", "backlog s", "in calls s", "messages/s", "calls/s")
    for column in (*columns, "wrong"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for name, phase in report["phases"].items():
        seconds = phase["seconds"] or 1e-9
        table.add_row(
            name,
            f"{phase['messages']:,}",
            f"{seconds:.2f}",
            f"{phase['backlog_seconds']:.2f}" if name == "put" else "",
            f"{phase['call_seconds']:.2f}",
            f"{phase['messages_per_second']:,.0f}",
            f"{phase['calls'] / seconds:,.0f}",
            f"{phase['wrong']:,}",
        )
    console = _console()
    console.print(table)
    memory, put = report["memory"], report["phases"]["put"]["extra"]
    console.print(
        "rates are of wall time; messages were made before; the puts end when all of them are "
        f"{report['puts_end']}; in calls: the thread that was longest in them\n"
        f"score {report['score']:,.0f} messages/s; put p50 {put['p50_us']:.2f} us, "
        f"p99 {put['p99_us']:.2f} us, slowest {put['max_us']:,.0f} us\n"
        f"memory after the puts {memory['resident_bytes'] / 1e6:,.0f} MB "
        f"(before: {memory['resident_before_bytes'] / 1e6:,.0f}, touched before the puts: "
        f"{memory['resident_touched_bytes'] / 1e6:,.0f}); "
        f"{report['disk_bytes_per_message']:.2f} bytes of log a message; "
        f"closed in {report['closing_seconds']:.2f} s, opened in {report['opening_seconds']:.2f} s"
    )


def _show_peers(peers: list[dict[str, Any]]) -> None:
    from rich.table import Table

    messages = peers[0]["messages"]
    table = Table(
        title=f"{messages:,} messages over {peers[0]['queues']:,} queues: transactions of 1000,"
        " no syncs but one at the end of the puts, one reader; cold / warm"
    )
    columns = ("store", "puts/s", "in calls, of s", "gets of 10/s", "consumed/s")
    for column in (*columns, "puts end", "disk bytes/message", "wrong"):
        table.add_column(column, justify="left" if column == "store" else "right")
    for peer in peers:
        if "missing" in peer:
            table.add_row(peer["name"], "not installed")
            continue
        table.add_row(
            f"{peer['name']} {peer['version']}",
            f"{peer['put_per_second']:,.0f}",
            f"{peer['put_call_seconds']:.2f} of {peer['put_seconds']:.2f}",
            *(
                f"{peer[f'cold_{what}_per_second']:,.0f} / {peer[f'warm_{what}_per_second']:,.0f}"
                for what in ("gets", "consumed")
            ),
            peer["puts_end"],
            f"{peer['disk_bytes'] / messages:.1f}",
            f"{peer['wrong']:,}",
        )
    _console().print(table)


def register(bench: typer.Typer) -> None:
    """Add the command to ``dragoman bench``."""
    bench.command("queue")(queue)
