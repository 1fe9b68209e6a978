"""Handing over the result: to a file and to the configured URL.

Called by the workflow at its end, whatever the result. The invariant: a reader never sees half a
file, and posting is tried a bounded number of times.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError, UsageError
from dragoman.harness.interruption import Interruption
from dragoman.race import http

log = logging.getLogger(__name__)
PAUSE_S = 0.5


class PostingError(DragomanError):
    """The result could not be posted."""


def write(path: Path, result: dict[str, Any]) -> None:
    """Put the result at ``path`` as a whole; UsageError if that cannot be done."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"result file {path}: {error.strerror}") from error


def post(url: str, result: dict[str, Any], attempts: int, interruption: Interruption) -> None:
    """Post the result, at most ``attempts`` times with growing pauses; raises PostingError."""
    http.check_url(url, "post_url")
    for attempt in range(1, attempts + 1):
        try:
            http.post_json(url, result)
        except http.HttpError as error:
            log.warning("posting, attempt %d of %d: %s", attempt, attempts, error)
            if not error.may_pass or attempt == attempts:
                raise PostingError(
                    f"the result was not accepted in {attempt} attempts: {error}"
                ) from error
            interruption.sleep(PAUSE_S * attempt)
        else:
            log.info("posted the result to %s", url)
            return
