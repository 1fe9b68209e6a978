"""``dragoman race``: options to settings, the workflow, its display, the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dragoman.errors import UsageError

_PRESSURE = "Pressure"
_RACED = "What is raced"
_PLACE = "Where it runs"
_TASK = "Task and result"


def _option(name: str, help: str, panel: str, *names: str) -> Any:
    variable = f"DRAGOMAN_RACE_{name.upper().replace('-', '_')}"
    return typer.Option(
        f"--{name}", *names, help=help, envvar=variable, show_default=False, rich_help_panel=panel
    )


def race(
    *,
    connections: Annotated[
        str | None,
        _option("connections", "Levels of concurrent callers (default: 64,128,256,512)", _PRESSURE),
    ] = None,
    duration_s: Annotated[
        float | None, _option("duration", "Seconds of each level (default: 60)", _PRESSURE)
    ] = None,
    warmup_s: Annotated[
        float | None, _option("warmup", "Seconds of warm-up, 0 for none (default: 3)", _PRESSURE)
    ] = None,
    load: Annotated[
        str | None, _option("load", "wrk or builtin (default: wrk where it is on PATH)", _PRESSURE)
    ] = None,
    threads: Annotated[
        int | None, _option("threads", "Threads of wrk (default: 2)", _PRESSURE)
    ] = None,
    request_timeout_s: Annotated[
        float | None, _option("timeout", "Seconds that a request may take (default: 5)", _PRESSURE)
    ] = None,
    direct: Annotated[
        bool, _option("direct", "Press on the consumer agent itself", _PRESSURE)
    ] = False,
    policy: Annotated[
        str | None, _option("policy", "Balance policy (default: demand)", _RACED)
    ] = None,
    compare_policies: Annotated[
        bool, _option("compare-policies", "Run every policy, one after the other", _RACED)
    ] = False,
    delay_ms: Annotated[
        float | None,
        _option("delay-ms", "What a provider takes for a request (default: 50)", _RACED),
    ] = None,
    limit: Annotated[
        int | None, _option("limit", "Requests that a provider runs at once (default: 200)", _RACED)
    ] = None,
    serialization: Annotated[
        str | None,
        _option(
            "serialization", "fastjson or hessian2 to the providers (default: fastjson)", _RACED
        ),
    ] = None,
    agent_workers: Annotated[
        int | None, _option("agent-workers", "Workers of the consumer agent (default: 1)", _RACED)
    ] = None,
    workspace: Annotated[
        str | None, _option("workspace", "Directory of lock and logs (default: race-logs)", _PLACE)
    ] = None,
    agent_port: Annotated[
        int | None, _option("agent-port", "Consumer agent's port, if free (default: 20000)", _PLACE)
    ] = None,
    consumer_port: Annotated[
        int | None,
        _option("consumer-port", "Demo consumer's port, if free (default: 8087)", _PLACE),
    ] = None,
    config: Annotated[
        Path | None, _option("config", "TOML file with a table (default: race)", _PLACE)
    ] = None,
    signatures: Annotated[
        str | None, _option("signatures", "File of SHA-256 signatures to check first", _PLACE)
    ] = None,
    write_signatures: Annotated[
        Path | None,
        typer.Option(
            help="Write the signatures of the demo services and the load, and end.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    log_level: Annotated[
        str | None, _option("log-level", "debug, info, warning or error (default: info)", _PLACE)
    ] = None,
    log_config: Annotated[
        str | None, _option("log-config", "Logging configuration, JSON or TOML", _PLACE)
    ] = None,
    task_server: Annotated[
        str | None, _option("task-server", "URL that hands out tasks to a POST", _TASK)
    ] = None,
    task_file: Annotated[
        str | None, _option("task", "Task from a JSON or TOML file", _TASK)
    ] = None,
    team_id: Annotated[
        str | None, _option("team-id", "Who asks the task server (default: local)", _TASK)
    ] = None,
    json_file: Annotated[str | None, _option("json", "Write the result to FILE", _TASK)] = None,
    post_url: Annotated[
        str | None, _option("post-url", "POST the result to this URL", _TASK)
    ] = None,
) -> None:
    """Race the whole mesh: load, consumer, agents, providers and a real etcd on this machine.

    Starts everything, presses at each level, measures, stops everything, and prints a table. The
    score is the best QPS of the levels. Options go before DRAGOMAN_RACE_* variables, these before
    the file, that before the task.
    """
    given = {
        name: value
        for name, value in locals().items()
        if name not in ("config", "write_signatures", "connections")
        and value is not None
        and value is not False
    }
    if write_signatures is not None:
        _write_signatures(write_signatures)
        return
    from dragoman.race.config import read_file

    if connections is not None:
        given["connections"] = _levels(connections)
    if config is not None:
        given = read_file(config) | given
    _run(given)


def _run(given: dict[str, Any]) -> None:
    from dragoman.cli.race_display import Display, print_outcome
    from dragoman.harness.interruption import Interrupted
    from dragoman.race.workflow import Race

    with Display() as display:
        race = Race(given, display)
        result = race.run()
    print_outcome(result)
    if race.error is None:
        return
    typer.echo(f"dragoman: race: {race.error}", err=True)
    if isinstance(race.error, Interrupted):
        raise typer.Exit(130)
    raise typer.Exit(2 if isinstance(race.error, UsageError) else 1)


def _write_signatures(path: Path) -> None:
    from dragoman.race import signatures

    count = signatures.write(path, signatures.guarded_files())
    typer.echo(f"{path}: signatures of {count} files")


def _levels(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--connections {text!r}: expected numbers with commas between, as in 64,128"
        ) from None


def register(app: typer.Typer) -> None:
    """Add the commands of this family to ``app``."""
    app.command("race")(race)
