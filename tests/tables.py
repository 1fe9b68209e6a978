"""One test for all rows of a table, which tells each row that fails by its name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any


def each_row(
    argument: str, rows: Iterable[Any], names: Sequence[str] | Callable[[Any], str] = str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test function with each of ``rows`` as ``argument``, and fail with all that fail.

    In place of ``pytest.mark.parametrize`` where rows want no set-up of their own: a case costs
    more to collect than to check. Two of them, one above the other, make a product.
    """
    table = list(rows)
    called = [names(row) for row in table] if callable(names) else list(names)
    assert len(called) == len(set(called)) == len(table) > 0, "rows have names of their own"

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(check)
        def run(**fixtures: Any) -> None:
            failed: list[str] = []
            first: BaseException | None = None
            for name, row in zip(called, table, strict=True):
                try:
                    check(**fixtures, **{argument: row})
                except Exception as error:
                    told = f"{name}: {type(error).__name__}: {error}"
                    failed.append(told.replace("\n", "\n    "))
                    first = first or error
            if failed:
                head = f"{len(failed)} of {len(table)} rows:"
                raise AssertionError("\n".join([head, *failed])) from first

        signature = inspect.signature(check)
        rest = [each for each in signature.parameters.values() if each.name != argument]
        run.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
        return run

    return decorate
