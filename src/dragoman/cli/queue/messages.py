"""``dragoman queue put``, ``get`` and ``tail``: messages into a queue, and out of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.cli.queue.options import Durability, Frames, Json, Name, Raw, Where, form_of
from dragoman.cli.queue.stores import changing, is_path, must_exist, perhaps_new, reading
from dragoman.cli.queue.text import Form, argument_bytes, batches, say, several, shown, write
from dragoman.errors import CorruptionError, StorageError, UsageError

if TYPE_CHECKING:
    from dragoman.queue import MessageStore

# How many messages are read and printed at a time.
TOGETHER = 1000
# How often a directory that is followed is looked at.
FOLLOW_S = 1.0
# How often in a row a directory that is followed may fail to open.
TRIES = 5


@dataclass(frozen=True, slots=True)
class _Output:
    """Where messages of one queue are printed, and the group, if any, that goes on behind them."""

    own: bytes
    form: Form
    group: bytes | None

    def print(self, store: MessageStore, at: int, messages: list[bytes]) -> int:
        """Print messages that are at ``at``, and commit them; returns where the next one is."""
        write(sys.stdout.buffer, self.form, self.own, at, messages)
        at += len(messages)
        if self.group is not None:
            store.commit(self.own, self.group, at)
        return at

    def print_rest(self, store: MessageStore, at: int) -> int:
        """Print what there is from ``at`` on; returns where the next message will be."""
        at = max(at, store.first_offset(self.own))
        while messages := store.get(self.own, at, TOGETHER):
            at = self.print(store, at, messages)
        return at

    def position(self, store: MessageStore) -> int | None:
        """Where the group is, not before the queue's first message; None without a group."""
        if self.group is None:
            return None
        return max(store.first_offset(self.own), store.committed(self.own, self.group))


def _output(name: str, group: str | None, form: Form) -> _Output:
    return _Output(argument_bytes(name), form, None if group is None else argument_bytes(group))


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
        if not is_path(where):
            raise UsageError("--durability is that of a directory; elsewhere it is the server's")
        options["durability"] = durability
    if not messages and sys.stdin.isatty():
        say("reading messages from the terminal, one a line; end with Ctrl-D")
    source = (
        iter([[argument_bytes(message) for message in messages]])
        if messages
        else batches(sys.stdin.buffer, "frames" if frames else "lines")
    )
    with perhaps_new(where, **options) as store:
        _put_all(store, argument_bytes(name), source)


def _put_all(store: MessageStore, own: bytes, source: Iterable[list[bytes]]) -> None:
    """Put messages as they come, and say which were put, whatever becomes of the others."""
    first = last = None
    count = 0
    try:
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
    output = _output(name, group, form_of(json_lines, raw, frames))
    if group is not None and offset is not None:
        raise UsageError("--group goes on where the group is; it takes no --offset")
    with reading(where) if group is None else changing(where) as store:
        must_exist(store, output.own)
        at = output.position(store)
        if at is None:
            at = store.first_offset(output.own) if offset is None else offset
        end = store.length(output.own)
        at = _print_range(store, output, at, end if everything else min(end, at + count))
        if at < end and not everything:
            say(f"{several(end - at, 'more message')}, from offset {at}")


def _print_range(store: MessageStore, output: _Output, at: int, stop: int) -> int:
    """Print the messages before ``stop``, all those before a damaged one; returns where it is."""
    step = TOGETHER
    while at < stop:
        try:
            messages = store.get(output.own, at, min(step, stop - at))
        except CorruptionError:
            if step == 1:
                raise
            # Everything before the damage, one by one.
            step = 1
            continue
        if not messages:
            break
        at = output.print(store, at, messages)
    return at


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
    output = _output(name, group, form_of(json_lines, raw, frames))
    if group is not None and offset is not None:
        raise UsageError("--group begins where the group is; it takes no --offset")
    if not is_path(where):
        _tail_elsewhere(where, output, count, offset, follow)
        return
    if group is not None:
        raise UsageError("--group commits, which a directory that may have a writer cannot")
    _tail_directory(where, output, count, offset, follow)


def _tail_elsewhere(
    where: str, output: _Output, count: int, offset: int | None, follow: bool
) -> None:
    """A store that is elsewhere says when there is more."""
    with reading(where) as store:
        if not follow:
            must_exist(store, output.own)
        at = output.position(store)
        if at is None:
            at = _begin_at(store, output.own, count, offset)
        while True:
            at = output.print_rest(store, at)
            if not follow:
                return
            store.wait_for(output.own, at)


def _tail_directory(
    where: str, output: _Output, count: int, offset: int | None, follow: bool
) -> None:
    """A directory shows what is on the disk when it is opened: it is opened again and again."""
    at: int | None = None
    failures = 0
    while True:
        try:
            with reading(where) as store:
                if at is None:
                    if not follow:
                        must_exist(store, output.own)
                    at = _begin_at(store, output.own, count, offset)
                at = output.print_rest(store, at)
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
