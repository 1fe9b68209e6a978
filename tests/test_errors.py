"""Errors go between processes: pickled and copied they say what they said."""

from __future__ import annotations

import concurrent.futures
import copy
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from dragoman import errors
from dragoman.errors import (
    BatchError,
    Code,
    DeadlineError,
    DragomanError,
    JavaError,
    LinkLostError,
    RemoteError,
    StorageError,
    from_code,
)


class TooFew(RemoteError):
    """An error of a service's own, with an ``__init__`` of its own."""

    code = 1003

    def __init__(self, have: int, *, want: int) -> None:
        super().__init__(f"{have} of {want}")
        self.have = have


def kinds() -> list[type[DragomanError]]:
    found, more = [], [DragomanError]
    while more:
        kind = more.pop()
        found.append(kind)
        more += [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return found


EXAMPLES: dict[str, Callable[[], DragomanError]] = {
    **{kind.__name__: lambda kind=kind: kind("what") for kind in kinds() if kind is not BatchError},  # type: ignore[misc]
    "batch": lambda: BatchError(
        [b"a", None, None],
        {1: LinkLostError("lost", endpoint="h:1", retry_safe=True), 2: DeadlineError("late")},
    ),
    "endpoint": lambda: LinkLostError("lost", endpoint="h:1", retry_safe=True),
    "errno": lambda: StorageError("full", errno=28),
    "java": lambda: JavaError("no", java_class="a.B", fields={"n": 1, "why": ["x"]}),
    "own code": lambda: RemoteError("own", code=4711),
    "own class": lambda: TooFew(1, want=2),
    "of the wire": lambda: from_code(Code.OVERLOAD, "full", retry_safe=True, endpoint="h:2"),
}


def said(error: DragomanError) -> dict[str, Any]:
    state = dict(vars(error), text=str(error), code=error.code, retry_safe=error.retry_safe)
    if isinstance(error, BatchError):
        state["errors"] = {index: said(each) for index, each in error.errors.items()}
    return state


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_error_comes_back_as_it_went(name: str) -> None:
    error = EXAMPLES[name]()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error) and said(again) == said(error)
    assert said(copy.copy(error)) == said(copy.deepcopy(error)) == said(error)


def fail(name: str) -> None:
    raise EXAMPLES[name]()


def test_a_pool_of_processes_passes_them_on() -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        for name in ("batch", "own class", "java"):
            with pytest.raises(DragomanError) as caught:
                pool.submit(fail, name).result(60)
            assert said(caught.value) == said(EXAMPLES[name]())
