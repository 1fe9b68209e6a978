"""Errors in a command line, in words of our own.

Typer's errors are told by what they are about (the option, the argument), not by their text, which
changes with its releases. Their classes are of its own copy of click or of another, so they are
told apart by name. ``Commands`` is every group of commands here.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup

from dragoman.errors import UsageError

# Where services are found, for the help of every option that takes it. Brackets are rich's.
REGISTRIES = (
    "etcd://host:port\\[/prefix], zookeeper://host:port, nacos://host:port, static://host:port, "
    "dubbo://host:port (providers themselves) or memory://name"
)


class Commands(TyperGroup):
    """A group of commands that says itself which one is not there."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with. Raises UsageError."""
        name = args[0]
        if self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise UsageError(f"there is no command {name[:60]!r}, {hint}")
        return super().resolve_command(ctx, args)


def wrong_option(error: Any) -> str:
    """One line for an error of typer's about options or arguments."""
    match type(error).__name__:
        case "NoSuchOption":
            near = sorted(error.possibilities or ())
            hint = f", did you mean {near[0]}?" if near else ""
            return f"there is no option {error.option_name}{hint}"
        case "MissingParameter" if error.param is not None:
            return f"{_named(error.param)} is missing"
        case "BadParameter" if error.param is not None and not _is_ours(error):
            return f"{_named(error.param)}: expected {_wanted(error.param)}"
        case "BadOptionUsage":
            given = any(each.startswith(f"{error.option_name}=") for each in sys.argv)
            return f"option {error.option_name}: expected {'no' if given else 'a'} value"
        case "UsageError" if error.ctx is not None:
            return f"more arguments than {error.ctx.command_path} takes"
    return str(error.format_message())


def _is_ours(error: Any) -> bool:
    """Whether a check of our own, which says what it wants, raised it."""
    return isinstance(error.__cause__, UsageError)


def _named(param: Any) -> str:
    """An option by its long name, an argument by what its help calls it."""
    if param.param_type_name == "argument":
        return f"argument {param.metavar or str(param.name).upper()}"
    return f"option {max(param.opts, key=len)}"


def _wanted(param: Any) -> str:
    """The type of the parameter. Older typer keeps a type of click's, newer the annotation."""
    kind = getattr(param, "type", None)
    choices = getattr(kind, "choices", None)
    if choices:
        return f"one of {', '.join(str(getattr(each, 'value', each)) for each in choices)}"
    declared = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    name = str(getattr(kind, "name", "")) or getattr(declared, "__name__", "")
    bounds = param if getattr(param, "type_descriptor", None) is not None else kind
    for begins, word in (
        ("int", "a whole number"),
        ("float", "a number"),
        ("bool", "yes or no"),
        ("file", "a file"),
        ("path", "a file"),
        ("Path", "a file"),
        ("directory", "a directory"),
    ):
        if name.startswith(begins):
            return word + _range(bounds)
    return "another value"


def _range(bounds: Any) -> str:
    least, most = getattr(bounds, "min", None), getattr(bounds, "max", None)
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}"
    if least is not None:
        return f" of at least {least:g}"
    return f" of at most {most:g}" if most is not None else ""
