"""Standard input, output and error that are closed, full or gone.

``main.run`` calls these around every command. The invariants: no file that a command opens becomes
its standard input or output; what cannot be written is one line, or nothing if its reader went
away.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def open_closed(*, stays: bool) -> None:
    """Put something in the place of what the caller has closed.

    Reading and writing it fail, as they should; but the output of a command that ``stays``, and
    what is said beside, go nowhere.
    """
    for descriptor, name, flags in (
        (0, "stdin", os.O_WRONLY),
        (1, "stdout", os.O_WRONLY if stays else os.O_RDONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which it is.
            os.open(os.devnull, flags)
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            mode = "r" if descriptor == 0 else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def give_up_output() -> None:
    """At the end: what still waits for an output that fails goes nowhere."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
