"""Connections of ours, which a process that was forked from ours must not touch.

A fork copies descriptors, so a child could write into its parent's connections, keep them open when
the parent has closed them, and hold a port that nobody listens on. Whoever opens a connection or
listens says so here (``opened``, ``closed``). In a child the numbers then stand for ``/dev/null``:
whatever the copied objects do with them, at the latest when the interpreter ends, reaches nobody.

Invariant: only a descriptor that is still the one that was opened is taken away.
"""

from __future__ import annotations

import contextlib
import os

from dragoman.errors import UsageError

_ours: dict[int, int] = {}


def opened(descriptor: int) -> None:
    """This process has a connection of its own at ``descriptor``."""
    with contextlib.suppress(OSError):
        _ours[descriptor] = os.fstat(descriptor).st_ino


def closed(descriptor: int) -> None:
    """It has it no more."""
    _ours.pop(descriptor, None)


def foreign(what: str) -> UsageError:
    """The error of whoever uses ``what`` in a child."""
    return UsageError(
        f"{what} was opened by the process that this one was forked from: open it anew"
    )


def _in_child() -> None:
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor, inode in _ours.items():
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_ino == inode:
                os.dup2(nothing, descriptor, inheritable=False)
    _ours.clear()
    os.close(nothing)


os.register_at_fork(after_in_child=_in_child)
