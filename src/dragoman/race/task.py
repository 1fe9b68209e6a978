"""The task of a race: from a task server, a file, or built in.

Called by the workflow. A task server is asked by ``POST`` with ``{"team_id": ...}`` and answers 200
with the task as JSON, or 204 while there is none. The invariant: asking is bounded (attempts, time
each), and a task can only set what is measured (the fields of Settings), never what is run on this
machine.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from dragoman.errors import DragomanError
from dragoman.harness.interruption import Interruption
from dragoman.race import http
from dragoman.race.config import RaceConfig, explained, read_table
from dragoman.wire.misfit import UNREADABLE, misfit

log = logging.getLogger(__name__)
# What a task may say about the race; the user's own settings go before it.
SETTINGS = (
    "connections",
    "duration_s",
    "warmup_s",
    "policy",
    "direct",
    "delay_ms",
    "limit",
    "weights",
)


class TaskError(DragomanError):
    """No task could be had, or it is not one."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task: ``settings`` are fields of RaceConfig. Other fields are ignored."""

    team_id: str = "local"
    task_id: str = "built-in"
    name: str = ""
    settings: dict[str, Any] = {}


def obtain(config: RaceConfig, interruption: Interruption) -> Task:
    """The task that ``config`` points to; TaskError if there is none."""
    if config.task_file:
        path = Path(config.task_file)
        return checked(read_table(path), str(path))
    if config.task_server:
        return _poll(config, interruption)
    return Task(team_id=config.team_id)


def checked(value: Any, origin: str) -> Task:
    """``value``, decoded JSON or TOML, as a task; TaskError naming ``origin`` and the field."""
    try:
        task = msgspec.convert(value, Task)
    except UNREADABLE:
        raise TaskError(f"task from {origin}: {explained(misfit(value, Task))}") from None
    unknown = sorted(set(task.settings) - set(SETTINGS))
    if unknown:
        raise TaskError(
            f"task from {origin}: settings.{unknown[0]}: expected one of {', '.join(SETTINGS)}"
        )
    log.info("task from %s: %s", origin, value)
    return task


def _poll(config: RaceConfig, interruption: Interruption) -> Task:
    url = config.task_server or ""
    http.check_url(url, "task server")
    reason = "no task"
    for attempt in range(1, config.task_attempts + 1):
        if attempt > 1:
            interruption.sleep(config.task_interval_s)
        try:
            reply = http.post_json(url, {"team_id": config.team_id})
        except http.HttpError as error:
            log.warning("task attempt %d of %d: %s", attempt, config.task_attempts, error)
            if not error.may_pass:
                raise TaskError(f"task server: {error}") from error
            reason = str(error)
            continue
        if reply is not None:
            return checked(reply, url)
        reason = "it had no task"
        log.info("task attempt %d of %d: none yet", attempt, config.task_attempts)
    raise TaskError(f"task server {url}: {reason} after {config.task_attempts} attempts")
