"""SIGHUP while a program that serves is still starting.

``dragoman.stopping`` ignores it with a line in the log once the loop runs; until then, for the half
second of imports, it would end the process. The command line holds it off first of all. Invariant:
whoever started the program with SIGHUP ignored (nohup) keeps it so.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

held = False


def hold_for(arguments: Sequence[str]) -> None:
    """Ignore SIGHUP from now on, if the command line is one that serves until it is stopped."""
    global held  # noqa: PLW0603 - of the process, as the signal is
    serves = arguments[1:2] == ["agent"] or arguments[1:3] == ["queue", "serve"]
    if serves and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        held = True
