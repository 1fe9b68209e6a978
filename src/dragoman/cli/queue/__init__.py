"""``dragoman queue``: put to, read from, look at and serve a store of queues, wherever it is.

Output is on standard output, everything about it on standard error. The invariant: bad input is one
line and exit code 2, what could not be done one line and 1; a reader that goes away ends a command
quietly.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import typer

from dragoman.cli import streams
from dragoman.cli.queue import contents, damage, exchange, messages, server
from dragoman.cli.words import Commands

queue = typer.Typer(
    cls=Commands,
    help="Queues of messages: put, read, look, serve. WHERE is the directory of a store, "
    "dragoman://HOST:PORT (one that is served), etcd://HOST:PORT?store=NAME (registered; static:// "
    "and memory:// likewise), or nats://HOST:PORT/PREFIX (on NATS JetStream).",
    no_args_is_help=True,
)


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command; a reader of its output that went away ends it quietly."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        if function is not server.serve:
            # What goes wrong with connections is in the errors that are raised: without a handler
            # it would be on standard error as well.
            for part in ("rpc", "cluster", "registry"):
                logging.getLogger(f"dragoman.{part}").addHandler(logging.NullHandler())
        try:
            return function(*arguments, **options)
        except BrokenPipeError:
            streams.give_up_output()
            raise typer.Exit(0) from None

    return run


# In the order of the help.
_COMMANDS: dict[str, Callable[..., None]] = {
    "put": messages.put,
    "get": messages.get,
    "tail": messages.tail,
    "stat": contents.stat,
    "verify": damage.verify,
    "repair": damage.repair,
    "export": exchange.export,
    "import": exchange.import_,
    "serve": server.serve,
}
for _name, _function in _COMMANDS.items():
    queue.command(_name)(_quiet(_function))


def register(app: typer.Typer) -> None:
    """Add the commands of this family to ``app``."""
    app.add_typer(queue, name="queue")
