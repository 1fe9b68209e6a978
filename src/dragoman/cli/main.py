"""The command line's root: builds the command tree, turns errors into one line and an exit code.

The only place that prints or exits. Each family of commands is a module of this package with an
``app``.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from dragoman import __version__
from dragoman.cli import streams
from dragoman.cli.words import Commands, wrong_option
from dragoman.errors import DragomanError, UsageError

app = typer.Typer(
    name="dragoman",
    cls=Commands,
    # Of all commands beneath, too.
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An interpreter between programs that do not share a language: "
    "a service mesh for Apache Dubbo.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dragoman {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """The options that stand before every command."""


# Typer's base of errors about options (click's UsageError, of its own copy of click or another).
BAD_OPTION: type[Exception] = typer.BadParameter.__mro__[1]

# Each name is a module of this package; it adds its commands to the application it is given.
FAMILIES = ("agent", "bench", "call", "demo", "queue", "race")


@cache
def build() -> typer.Typer:
    """The whole command tree, made once: families add to it."""
    for family in FAMILIES:
        import_module(f"dragoman.cli.{family}").register(app)
    return app


def run() -> None:
    """Entry point of the ``dragoman`` command."""
    streams.open_closed(stays=_stays(sys.argv[1:]))
    try:
        # Not standalone: what is wrong with the options is one line as well.
        code = build()(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # A reader of the output that went away ends a command quietly.
        code = 0
    except OSError as error:
        where = error.filename or "standard output"
        code = _report(f"{where}: {error.strerror or error}", 1)
    except UsageError as error:
        code = _report(error, 2)
    except DragomanError as error:
        code = _report(error, 1)
    except BAD_OPTION as error:
        code = _show(error)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    streams.give_up_output()
    sys.exit(code)


def _stays(arguments: list[str]) -> bool:
    """Whether it is a command that stays, whose output on starting nobody need want."""
    return arguments[:1] in (["agent"], ["demo"]) or arguments[:2] == ["queue", "serve"]


def _show(error: Any) -> int:
    """Report what is wrong with the options; without any, show the help that was asked for."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        _report(wrong_option(error), 2)
    return 2


def _report(error: DragomanError | str, code: int) -> int:
    with suppress(OSError):
        print(f"dragoman: {error}", file=sys.stderr)
    return code
