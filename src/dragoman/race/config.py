"""A race's settings: one structure for options, ``DRAGOMAN_RACE_*`` variables and the TOML file.

Called by ``dragoman.cli.race``, which passes on what the user gave, and by the workflow, which lets
a task set what the user left open. The invariant: a RaceConfig is valid in every field; everything
wrong is a UsageError naming the field. Precedence: built-in default < task < file < variable <
option.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dragoman.balance.policies import POLICIES
from dragoman.errors import UsageError
from dragoman.observe.logs import LEVELS
from dragoman.wire.misfit import UNREADABLE, Misfit, json_misfit, misfit, toml_misfit

LOADS = ("wrk", "builtin")
SIZES = ("small", "medium", "large")
# Names that a file may still use, and today's.
RENAMED = {"memory_mb": "memory_mib"}
INTERFACE = "com.alibaba.dubbo.performance.demo.provider.IHelloService"

if TYPE_CHECKING:
    Policy = str
    LogLevel = str
else:
    Policy = Literal[tuple(POLICIES)]
    LogLevel = Literal[LEVELS]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class RaceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one race; the defaults are the contest's."""

    # The pressure
    connections: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=32)] = (
        64,
        128,
        256,
        512,
    )
    """Levels: callers at once in the closed loop."""
    duration_s: Annotated[float, Meta(ge=1, le=86_400)] = 60
    """Seconds of each level."""
    warmup_s: Annotated[float, Meta(ge=0, le=3600)] = 3
    """Seconds of warm-up at the highest level, not counted."""
    load: Literal["wrk", "builtin"] | None = None
    """The load generator; None is wrk where it is on PATH."""
    threads: Annotated[int, Meta(ge=1, le=64)] = 2
    """Threads of wrk."""
    request_timeout_s: Seconds = 5
    """How long one request may take before the load counts it as an error."""
    level_grace_s: Seconds = 30
    """How much longer than its duration a level may take before it is given up."""
    direct: bool = False
    """Press on the consumer agent itself, without the demo consumer."""

    # What is raced
    policy: Policy = "demand"
    compare_policies: bool = False
    """Run every policy, one after the other."""
    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 50
    """What the providers take for a request."""
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 200
    """Requests that a provider runs at once."""
    serialization: Literal["fastjson", "hessian2"] = "fastjson"
    """What the providers speak."""
    weights: tuple[Count, Count, Count] = (1, 2, 3)
    """Capacities of the small, the medium and the large provider."""
    memory_mib: Annotated[int, Meta(ge=0, le=1 << 20)] = 512
    """A provider's address space for each unit of its weight; 0 is no bound."""
    agent_workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Worker processes of the consumer agent."""
    dragoman: tuple[str, ...] = ()
    """The program raced, as a command; empty is this one."""

    # Where it runs
    workspace: str = "race-logs"
    """Directory of the lock, the logs and the archives."""
    agent_port: Port = 20000
    """Where the consumer agent listens; another free port if it is taken. 0 is any."""
    consumer_port: Port = 8087
    """Where the demo consumer listens; likewise."""
    start_timeout_s: Seconds = 20
    """How long a process may take until it is ready."""
    stop_grace_s: Seconds = 10
    """How long a process may take to end before it is killed."""
    etcd_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    """How often etcd is started before the race gives up."""
    signatures: str | None = None
    """File of SHA-256 signatures to check first."""
    log_level: LogLevel = "info"
    log_config: str | None = None
    """JSON or TOML file for ``logging.config.dictConfig``, instead of ``log_level``."""

    # The task, and where the result goes
    task_server: str | None = None
    """URL that hands out tasks to a POST."""
    task_file: str | None = None
    task_attempts: Annotated[int, Meta(ge=1, le=100_000)] = 30
    task_interval_s: Annotated[float, Meta(ge=0, le=3600)] = 1
    team_id: str = "local"
    json_file: str | None = None
    """Where the result is written."""
    post_url: str | None = None
    """Where the result is posted."""
    post_attempts: Annotated[int, Meta(ge=1, le=1000)] = 3

    def capacity(self, size: str) -> int:
        """The weight of the provider called ``size``."""
        return self.weights[SIZES.index(size)]


def build(given: dict[str, Any]) -> RaceConfig:
    """The configuration from what was given by field name; UsageError names a bad field."""
    given = _renamed(given)
    try:
        config = msgspec.convert(given, RaceConfig, strict=False)
    except UNREADABLE:
        why = explained(misfit(given, RaceConfig, strict=False))
        raise UsageError(f"race configuration: {why}") from None
    if config.task_server and config.task_file:
        raise UsageError("race configuration: task_server and task_file exclude each other")
    return config


def read_file(path: Path) -> dict[str, Any]:
    """The ``[race]`` table of a TOML file, checked; UsageError names the file and the place."""
    table = read_table(path).get("race")
    if not isinstance(table, dict):
        raise UsageError(f"{path}: expected a table [race]")
    table = _renamed(table)
    try:
        msgspec.convert(table, RaceConfig)
    except UNREADABLE:
        raise UsageError(f"{path}: {explained(misfit(table, RaceConfig))}") from None
    return table


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """``given`` under today's names; what has both is given under today's."""
    today = {RENAMED[name]: value for name, value in given.items() if name in RENAMED}
    return today | {name: value for name, value in given.items() if name not in RENAMED}


def read_table(path: Path) -> dict[str, Any]:
    """A TOML or (by its suffix) JSON file that holds a table; UsageError if it cannot be read."""
    try:
        data = path.read_bytes()
        table = (
            msgspec.json.decode(data) if path.suffix == ".json" else tomllib.loads(data.decode())
        )
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UNREADABLE as error:
        why = json_misfit(data, Any) if path.suffix == ".json" else toml_misfit(error)
        raise UsageError(f"{path}: {why}") from None
    if not isinstance(table, dict):
        raise UsageError(f"{path}: expected a table")
    return table


def explained(found: Misfit) -> str:
    """The text of a misfit, with the field in front: ``connections[0]: expected int...``."""
    return f"{found.field}: {found.why}" if found.place else found.why
