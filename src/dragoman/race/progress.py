"""The progress of a race, for those that watch it.

Implemented by the command line's display; called by the workflow. The invariant: watching changes
nothing, so an implementation neither raises nor blocks for long.
"""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """The state of the race now."""

    def plan(self, seconds: float) -> None:
        """The load will take about ``seconds`` in all."""

    def step(self, text: str) -> None:
        """A step has begun."""

    def advance(self, seconds: float, text: str) -> None:
        """Load has run for ``seconds`` since the last call; ``text`` says which."""

    def level(self, report: dict[str, Any]) -> None:
        """A level is done; ``report`` is its entry of the result."""


class Silent:
    """Watches nothing."""

    def plan(self, seconds: float) -> None:
        """See Progress."""

    def step(self, text: str) -> None:
        """See Progress."""

    def advance(self, seconds: float, text: str) -> None:
        """See Progress."""

    def level(self, report: dict[str, Any]) -> None:
        """See Progress."""
