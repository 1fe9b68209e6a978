"""``dragoman queue``: put to, read from, look at and serve a store of queues, wherever it is.

Output is on standard output, everything about it on standard error. The invariant: bad input is one
line and exit code 2, what could not be done one line and 1; a reader that goes away ends a command
quietly.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dragoman.cli import streams
from dragoman.cli.queue_text import (
    Form,
    argument_bytes,
    batches,
    fields_of,
    say,
    several,
    shown,
    size_text,
    write,
)
from dragoman.cli.words import Commands
from dragoman.errors import CorruptionError, StorageError, UsageError

if TYPE_CHECKING:
    from dragoman.queue import Damage, MessageStore

F = TypeVar("F", bound=Callable[..., Any])

queue = typer.Typer(
    cls=Commands,
    help="Queues of messages: put, read, look, serve. WHERE is the directory of a store, "
    "dragoman://HOST:PORT (one that is served), etcd://HOST:PORT?store=NAME (registered; static:// "
    "and memory:// likewise), or nats://HOST:PORT/PREFIX (on NATS JetStream).",
    no_args_is_help=True,
)

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

# How much is read and printed at a time.
TOGETHER = 1000
FOLLOW_S = 1.0
# How often in a row a directory that is followed may fail to open.
TRIES = 5


def _command(name: str) -> Callable[[F], F]:
    """A command; a reader of its output that went away ends it quietly."""

    def register_one(function: F) -> F:
        @functools.wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            if name != "serve":
                # What goes wrong with connections is in the errors that are raised: without a
                # handler it would be on standard error as well.
                for part in ("rpc", "cluster", "registry"):
                    logging.getLogger(f"dragoman.{part}").addHandler(logging.NullHandler())
            try:
                return function(*arguments, **options)
            except BrokenPipeError:
                streams.give_up_output()
                raise typer.Exit(0) from None

        queue.command(name)(run)
        return function

    return register_one


def _reading(where: str) -> AbstractContextManager[MessageStore]:
    """A store to read from: a directory may have a writer meanwhile."""
    from dragoman.broker import open_store

    return open_store(where, read_only=True) if _is_path(where) else open_store(where)


def _changing(where: str) -> AbstractContextManager[MessageStore]:
    """A store that is there, to change."""
    from dragoman.broker import open_store

    return open_store(where, create=False) if _is_path(where) else open_store(where)


@contextlib.contextmanager
def _perhaps_new(where: str, **options: Any) -> Iterator[MessageStore]:
    """A store to put to, which is made if it is not there; one that came to nothing leaves none."""
    from dragoman.broker import open_store

    place = Path(where) if _is_path(where) else None
    new = place is not None and not place.exists()
    with open_store(where, **options) as store:
        try:
            yield store
        except BaseException:
            new = new and next(iter(store.queues()), None) is None
            raise
        else:
            new = False
        finally:
            store.close()
            if new and place is not None:
                shutil.rmtree(place, ignore_errors=True)


def _is_path(where: str) -> bool:
    return "://" not in where and not where.startswith("unix:")


def _form(json_lines: bool, raw: bool, frames: bool) -> Form:
    forms: tuple[tuple[Form, bool], ...] = (("json", json_lines), ("raw", raw), ("frames", frames))
    chosen = [form for form, on in forms if on]
    if len(chosen) > 1:
        raise UsageError(f"choose one of --{' and --'.join(chosen)}")
    return chosen[0] if chosen else "text"


@_command("put")
def put(
    where: Where,
    name: Name,
    messages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MESSAGE", help="Messages; without any, standard input", show_default=False
        ),
    ] = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="Standard input: messages after their lengths, 4 bytes little-endian",
        ),
    ] = False,
    durability: Durability = None,
) -> None:
    """Append messages: those given, or each line of standard input."""
    if messages and frames:
        raise UsageError("--frames is about standard input; messages were given as well")
    options: dict[str, Any] = {}
    if durability is not None:
        if not _is_path(where):
            raise UsageError("--durability is that of a directory; elsewhere it is the server's")
        options["durability"] = durability
    own = argument_bytes(name)
    first = last = None
    count = 0
    if not messages and sys.stdin.isatty():
        say("reading messages from the terminal, one a line; end with Ctrl-D")
    with _perhaps_new(where, **options) as store:
        try:
            source = (
                iter([[argument_bytes(message) for message in messages]])
                if messages
                else batches(sys.stdin.buffer, "frames" if frames else "lines")
            )
            for batch in source:
                offsets = store.put_many(own, batch)
                first = offsets[0] if first is None else first
                last = offsets[-1]
                count += len(offsets)
        finally:
            if first is not None:
                at = f"offset {first}" if count == 1 else f"offsets {first} to {last}"
                say(f"{shown(own, 60)}: {several(count, 'message')} put, {at}")
        if first is None:
            say(f"{shown(own, 60)}: nothing to put")


@_command("get")
def get(
    where: Where,
    name: Name,
    offset: Annotated[
        int | None, typer.Option(help="Of the first message  \\[default: the oldest]")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Messages at most")] = 10,
    everything: Annotated[bool, typer.Option("--all", help="All to the end of the queue")] = False,
    group: Annotated[
        str | None,
        typer.Option(help="Go on where this group is, and commit what was printed"),
    ] = None,
    json_lines: Json = False,
    raw: Raw = False,
    frames: Frames = False,
) -> None:
    """Print messages of a queue, one a line."""
    form = _form(json_lines, raw, frames)
    own = argument_bytes(name)
    if group is not None and offset is not None:
        raise UsageError("--group goes on where the group is; it takes no --offset")
    with _reading(where) if group is None else _changing(where) as store:
        _must_exist(store, own)
        committer = argument_bytes(group) if group is not None else None
        first = store.first_offset(own)
        if committer is not None:
            at = max(first, store.committed(own, committer))
        else:
            at = first if offset is None else offset
        end = store.length(own)
        stop = end if everything else min(end, at + count)
        step = TOGETHER
        while at < stop:
            try:
                messages = store.get(own, at, min(step, stop - at))
            except CorruptionError:
                if step == 1:
                    raise
                # Everything before the damage, one by one.
                step = 1
                continue
            if not messages:
                break
            write(sys.stdout.buffer, form, own, at, messages)
            at += len(messages)
            if committer is not None:
                store.commit(own, committer, at)
        if at < end and not everything:
            say(f"{several(end - at, 'more message')}, from offset {at}")


@_command("tail")
def tail(
    where: Where,
    name: Name,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="Messages to begin with, from the end")
    ] = 10,
    offset: Annotated[int | None, typer.Option(min=0, help="Begin here instead")] = None,
    group: Annotated[
        str | None, typer.Option(help="Begin where this group is, and commit what was printed")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more until Ctrl-C")
    ] = True,
    json_lines: Json = False,
    raw: Raw = False,
    frames: Frames = False,
) -> None:
    """Print the last messages of a queue, and those that come."""
    form = _form(json_lines, raw, frames)
    own = argument_bytes(name)
    if group is not None and offset is not None:
        raise UsageError("--group begins where the group is; it takes no --offset")
    if _is_path(where):
        if group is not None:
            raise UsageError("--group commits, which a directory that may have a writer cannot")
        _tail_directory(where, own, count, offset, follow, form)
        return
    from dragoman.broker import open_store

    with open_store(where) as store:
        if not follow:
            _must_exist(store, own)
        committer = argument_bytes(group) if group is not None else None
        at = _begin_at(store, own, count, offset)
        if committer is not None:
            at = max(store.first_offset(own), store.committed(own, committer))
        while True:
            at = _print_rest(store, own, at, form, committer)
            if not follow:
                return
            store.wait_for(own, at)


def _tail_directory(
    where: str, own: bytes, count: int, offset: int | None, follow: bool, form: Form
) -> None:
    """A directory shows what is on the disk when it is opened: it is opened again and again."""
    import time

    at: int | None = None
    failures = 0
    while True:
        try:
            with _reading(where) as store:
                if at is None:
                    if not follow:
                        _must_exist(store, own)
                    at = _begin_at(store, own, count, offset)
                at = _print_rest(store, own, at, form, None)
            failures = 0
        except (StorageError, CorruptionError):
            # A writer may take a file away in the moment in which it is read; damage stays.
            failures += 1
            if not follow or failures == TRIES:
                raise
        if not follow:
            return
        time.sleep(FOLLOW_S)


def _begin_at(store: MessageStore, own: bytes, count: int, offset: int | None) -> int:
    first = store.first_offset(own)
    return max(first, store.length(own) - count if offset is None else offset)


def _print_rest(
    store: MessageStore, own: bytes, at: int, form: Form, committer: bytes | None
) -> int:
    at = max(at, store.first_offset(own))
    while messages := store.get(own, at, TOGETHER):
        write(sys.stdout.buffer, form, own, at, messages)
        at += len(messages)
        if committer is not None:
            store.commit(own, committer, at)
    return at


def _must_exist(store: MessageStore, own: bytes) -> None:
    if own not in store:
        raise UsageError(f"there is no queue {shown(own, 60)!r} in the store")


@_command("stat")
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
    import dataclasses

    with _reading(where) as store:
        counts = dataclasses.asdict(store.statistics())  # type: ignore[call-overload]
        chosen = [argument_bytes(name) for name in names or ()]
        for own in chosen:
            _must_exist(store, own)
        listed = chosen or list(islice(store.queues(), queues))
        rows = [
            (own, store.first_offset(own), store.length(own), store.groups(own)) for own in listed
        ]
    if json_out:
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
        return
    _show_store(where, counts)
    _show_queues(rows, 0 if chosen else counts["queues"] - len(rows))


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


def _show_queues(rows: list[tuple[bytes, int, int, dict[bytes, int]]], more: int) -> None:
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


@_command("verify")
def verify(
    path: Path_,
    json_out: Annotated[bool, typer.Option("--json", help="A JSON object a line")] = False,
) -> None:
    """Read a whole store and list what is not as it was written; exit code 1 if anything."""
    from dragoman import queue as queues

    with _Display("verify") as display:
        found = queues.verify(path, display.progress)
    _show_damage(found, json_out)
    if found:
        raise CorruptionError(f"{path}: {several(len(found), 'damaged place')}")
    if not json_out:
        say(f"{path}: every block is as it was written")


@_command("repair")
def repair(
    path: Path_,
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove damaged files instead of putting them aside")
    ] = False,
    json_out: Annotated[bool, typer.Option("--json", help="A JSON object a line")] = False,
) -> None:
    """Make a damaged store usable again, and list what was lost."""
    from dragoman import queue as queues

    with _Display("repair") as display:
        report = queues.repair(path, keep=not discard, progress=display.progress)
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


@_command("export")
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
    with _reading(where) as store, _Display("export") as display:
        if str(file) == "-":
            moved = export_queues(store, sys.stdout.buffer, names, display.count)
        else:
            try:
                # Whole or not at all.
                part = file.with_name(file.name + ".part")
                with part.open("wb") as stream:
                    moved = export_queues(store, stream, names, display.count)
                    stream.flush()
                    os.fsync(stream.fileno())
                part.replace(file)
            except OSError as error:
                raise UsageError(f"{file}: {error.strerror}") from None
    say(
        f"exported {several(moved.queues, 'queue')}, {several(moved.messages, 'message')}, "
        f"{size_text(moved.bytes)}"
    )


@_command("import")
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
    with stream, _perhaps_new(where, **options) as store, _Display("import") as display:
        moved = import_queues(store, stream, display.count)
    say(
        f"imported {several(moved.queues, 'queue')}, {several(moved.messages, 'message')}, "
        f"{size_text(moved.bytes)}"
    )


class _Display:
    """One live line on a terminal's standard error, nothing elsewhere."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._name = name
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> _Display:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def progress(self, done: int, total: int) -> None:
        """How many bytes have been gone through."""
        text = f"{self._name}: {size_text(done)} of {size_text(total)}"
        self._bar.update(self._task, completed=done, total=total or 1, description=text)

    def count(self, queues: int, messages: int) -> None:
        """How much has been moved."""
        text = f"{self._name}: {several(queues, 'queue')}, {several(messages, 'message')}"
        self._bar.update(self._task, description=text)


@_command("serve")
def serve(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The store's directory")],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one")
    ] = "127.0.0.1:7400",
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where to register it: etcd://host:port, static://host:port or memory://name"
            "  \\[default: nowhere]",
            envvar="DRAGOMAN_REGISTRY",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to register it as  \\[default: dragoman.queues]")
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="The host to register, if it listens on every address"),
    ] = None,
    durability: Annotated[str, typer.Option(help="none, interval(MS) or always")] = "interval(100)",
    memory_mib: Annotated[
        int, typer.Option("--memory-mib", min=1, help="What the store may use, MiB")
    ] = 1335,
    retention_s: Annotated[
        float | None, typer.Option("--retention-s", help="Keep messages so many seconds")
    ] = None,
    retention_bytes: Annotated[
        int | None, typer.Option("--retention-bytes", help="Keep so many bytes of segments")
    ] = None,
    retention_messages: Annotated[
        int | None, typer.Option("--retention-messages", help="Keep so many messages of each queue")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Requests taken at once")] = 10_000,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
) -> None:
    """Open a store and serve it to other processes until SIGTERM or Ctrl-C."""
    import uvloop

    from dragoman.cli.queue_serve import Settings, run

    if registry is None and (name is not None or advertise is not None):
        raise UsageError("--name and --advertise are for the registry: give --registry")
    uvloop.run(
        run(
            Settings(
                path=path,
                listen=listen,
                registry=registry,
                name=name,
                advertise=advertise,
                limit=limit,
                log_level=log_level,
                store={
                    "durability": durability,
                    "memory_bytes": memory_mib << 20,
                    "retention_s": retention_s,
                    "retention_bytes": retention_bytes,
                    "retention_messages": retention_messages,
                },
            )
        )
    )


def register(app: typer.Typer) -> None:
    """Add the commands of this family to ``app``."""
    app.add_typer(queue, name="queue")
