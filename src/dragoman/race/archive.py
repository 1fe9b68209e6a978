"""The logs of a race: a fresh directory at its start, a ``.tar.gz`` at its end.

Called by the workflow while it holds the workspace's lock. The invariant: ``logs/`` holds the
newest race's files as they are, ``<run id>.tar.gz`` each race's, and an archive is either whole or
absent.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from dragoman.errors import UsageError
from dragoman.race.config import RaceConfig, read_table

LOGS = "logs"


def fresh_logs(workspace: Path) -> Path:
    """An empty ``logs/`` in the workspace; UsageError if it cannot be made."""
    directory = workspace / LOGS
    try:
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"workspace {workspace}: {error.filename}: {error.strerror}") from error
    return directory


def pack(directory: Path, archive: Path) -> None:
    """Put the directory's files into ``archive``; raises OSError."""
    temporary = archive.with_suffix(".tmp")
    try:
        with tarfile.open(temporary, "w:gz", compresslevel=6) as tar:
            tar.add(directory, arcname=archive.name.removesuffix(".tar.gz"))
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def logging_to(directory: Path, config: RaceConfig) -> Iterator[None]:
    """Set logging up for one race: everything the race does goes to ``race.log``.

    A ``log_config`` adds what it says, or takes the logger ``dragoman`` over by naming it.
    """
    logger = logging.getLogger("dragoman")
    handler = logging.FileHandler(directory / "race.log")
    handler.setFormatter(
        logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    level = logger.level
    logger.setLevel(config.log_level.upper())
    try:
        if config.log_config:
            path = Path(config.log_config)
            table = {"version": 1, "disable_existing_loggers": False, **read_table(path)}
            try:
                logging.config.dictConfig(table)
            except (ValueError, TypeError, AttributeError, ImportError) as error:
                raise UsageError(f"{path}: {error}") from error
        logger.addHandler(handler)
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(level)
