"""The command line's root: builds the command tree, turns errors into one line and an exit code.

The only place that prints or exits. Each family of commands is a module of this package with an ``app``.
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from dragoman.errors import DragomanError, UsageError

app = typer.Typer(
    name="dragoman",
    help="An interpreter between programs that do not share a language: a service mesh for Apache Dubbo.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


# Each name is a module of this package; it adds its commands to the application it is given.
FAMILIES = ("agent", "demo", "race")


def build() -> typer.Typer:
    """The whole command tree."""
    for family in FAMILIES:
        import_module(f"dragoman.cli.{family}").register(app)
    return app


def run() -> None:
    """Entry point of the ``dragoman`` command."""
    try:
        build()()
    except UsageError as error:
        print(f"dragoman: {error}", file=sys.stderr)
        sys.exit(2)
    except DragomanError as error:
        print(f"dragoman: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
