"""The store that a command of ``dragoman queue`` is about, opened for what it does with it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.cli.queue.text import shown
from dragoman.errors import UsageError

if TYPE_CHECKING:
    from dragoman.queue import MessageStore


def is_path(where: str) -> bool:
    """Whether the store is a directory here, not one that is elsewhere."""
    return "://" not in where and not where.startswith("unix:")


def reading(where: str) -> AbstractContextManager[MessageStore]:
    """A store to read from: a directory may have a writer meanwhile."""
    from dragoman.broker import open_store

    return open_store(where, read_only=True) if is_path(where) else open_store(where)


def changing(where: str) -> AbstractContextManager[MessageStore]:
    """A store that is there, to change."""
    from dragoman.broker import open_store

    return open_store(where, create=False) if is_path(where) else open_store(where)


@contextlib.contextmanager
def perhaps_new(where: str, **options: Any) -> Iterator[MessageStore]:
    """A store to put to, which is made if it is not there; one that came to nothing leaves none."""
    from dragoman.broker import open_store

    place = Path(where) if is_path(where) else None
    new = place is not None and not place.exists()
    with open_store(where, **options) as store:
        try:
            yield store
        except BaseException:
            new = new and next(iter(store.queues()), None) is None
            raise
        else:
            new = False
        finally:
            store.close()
            if new and place is not None:
                shutil.rmtree(place, ignore_errors=True)


def must_exist(store: MessageStore, own: bytes) -> None:
    """Raises UsageError if there is no queue ``own``."""
    if own not in store:
        raise UsageError(f"there is no queue {shown(own, 60)!r} in the store")
