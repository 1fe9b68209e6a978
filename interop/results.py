"""What a cell of the matrix holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """ "pass", "fail", "as Java" (two Java programs of the same kind fail alike) or "not offered",
    and why, or what was seen."""

    cell: str
    why: str = ""


def passed(what: str, *complaints: str | None) -> Result:
    """A pass that says what was seen, unless there are complaints."""
    found = [each for each in complaints if each]
    return Result("fail", "; ".join(found)) if found else Result("pass", what)
