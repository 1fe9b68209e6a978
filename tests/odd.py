"""Values that an option might be given by mistake, and what its user is to hear then."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from dragoman.errors import DragomanError, UsageError

ODD: tuple[Any, ...] = (
    None,
    "x",
    "",
    True,
    -1,
    1.5,
    object(),
    b"x",
    float("nan"),
    float("inf"),
    1 << 80,
    # An int that cannot be shown in decimal.
    1 << 20_000,
    [],
    {},
    "\ud800",
    "a\0b",
    "line\nline",
    "x" * 100_000,
)
MESSAGE_MAX = 700


def options_of(function: Callable[..., Any], *but: str) -> list[str]:
    """The names of a function's options."""
    return [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.kind is not each.VAR_KEYWORD and each.name not in (*but, "self")
    ]


def check_said(error: UsageError, option: str, also: Iterable[str] = ()) -> None:
    """It is a line that names the option."""
    said = str(error)
    assert any(name in said for name in (option, *also)), f"{option}: {said:.300}"
    assert "\n" not in said and len(said) <= MESSAGE_MAX, f"{option}: {said:.300}"


async def misuse(
    make: Callable[..., Any],
    options: Iterable[str],
    usual: Mapping[str, Any],
    also: Mapping[str, str] | None = None,
    *,
    close: bool = True,
) -> None:
    """Call ``make`` with each option given in each odd way: it works, or raises one line that names
    the option (or ``also``'s word for it); another error of ours may come only of a value that is
    of the right kind. What is made is closed."""
    for option in options:
        for value in ODD:
            place = f"{option}={value!r:.40}" if value != ODD[11] else f"{option}=huge"
            try:
                made = make(**{**usual, option: value})
                if inspect.isawaitable(made):
                    made = await made
            except UsageError as error:
                check_said(error, option, [(also or {}).get(option, option)])
                continue
            except DragomanError as error:
                right = isinstance(value, str | list | dict) or value == 1.5
                assert right, f"{place}: {error!r}"
                continue
            except Exception as error:
                pytest.fail(f"{place}: {error!r}")
            if close and (closed := made.close()) is not None:
                await closed
