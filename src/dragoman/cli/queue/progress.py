"""How far a long command has come, on a terminal."""

from __future__ import annotations

from dragoman.cli.queue.text import several, size_text


class ProgressLine:
    """One live line on a terminal's standard error, nothing elsewhere."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._name = name
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> ProgressLine:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def of_bytes(self, done: int, total: int) -> None:
        """How many bytes have been gone through."""
        text = f"{self._name}: {size_text(done)} of {size_text(total)}"
        self._bar.update(self._task, completed=done, total=total or 1, description=text)

    def moved(self, queues: int, messages: int) -> None:
        """How much has been moved."""
        text = f"{self._name}: {several(queues, 'queue')}, {several(messages, 'message')}"
        self._bar.update(self._task, description=text)
