"""``dragoman demo``: the services that the race drives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from dragoman.cli.words import Commands
from dragoman.errors import UsageError

demo = typer.Typer(
    cls=Commands, help="The demo provider and consumer that the race drives.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands of this family to ``app``."""
    app.add_typer(demo, name="demo")


@demo.command()
def consumer(
    port: Annotated[int, typer.Option(help="Port to serve /invoke on; 0 takes a free one.")] = 8087,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    agent: Annotated[
        str, typer.Option(help="The consumer agent, http://HOST:PORT.")
    ] = "http://127.0.0.1:20000",
    connections_max: Annotated[
        int, typer.Option(min=1, help="Most connections to the agent.")
    ] = 4096,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds to wait for the agent's answer.")
    ] = 30.0,
) -> None:
    """Serve GET /invoke: ask the agent for a random string's hash and check the answer."""
    import uvloop

    from dragoman.demo.consumer import serve

    def ready(host: str, port: int) -> None:
        print(f"consumer on http://{host}:{port}, agent {agent}", flush=True)

    uvloop.run(
        serve(
            host=host,
            port=port,
            agent=agent,
            connections_max=connections_max,
            timeout_s=timeout,
            ready=ready,
        )
    )


@demo.command()
def provider(
    *,
    host: Annotated[
        str, typer.Option(envvar="DRAGOMAN_DEMO_HOST", help="Address to listen on")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="DRAGOMAN_DEMO_PORT", help="Port to listen on, 0 for a free one")
    ] = 20880,
    size: Annotated[
        str, typer.Option(help="small, medium or large: a label for capacities 1 : 2 : 3")
    ] = "small",
    delay_ms: Annotated[
        float, typer.Option("--delay-ms", help="What a call takes; 0 answers at once")
    ] = 50.0,
    limit: Annotated[
        int, typer.Option(help="Calls under way at once; one more is answered with status 100")
    ] = 200,
    drain_s: Annotated[
        float, typer.Option("--drain", help="Seconds that calls under way get after SIGTERM")
    ] = 10.0,
    stats_file: Annotated[
        Path | None,
        typer.Option("--stats-file", help="Write the counts as JSON here at exit", dir_okay=False),
    ] = None,
    fault: Annotated[
        str,
        typer.Option(
            help="What goes wrong, for tests: hang, garbage, twice, never, slow, reject or close"
        ),
    ] = "none",
    fault_after: Annotated[
        int, typer.Option("--fault-after", help="Calls that go well before the fault")
    ] = 0,
    fault_until: Annotated[
        int, typer.Option("--fault-until", help="Number of the last call it hits, 0 for no end")
    ] = 0,
    serialization: Annotated[
        str, typer.Option(help="What it speaks: fastjson, as in the contest, or hessian2")
    ] = "fastjson",
) -> None:
    """Serve the contest's `int hash(String)` over Dubbo, 50 ms a call, 200 at once.

    Stops on SIGTERM or Ctrl-C: tells its peers, finishes what is under way, and writes its counts
    as one line of JSON to standard error.
    """
    from dragoman.demo.serving import ProviderOptions, run

    options = ProviderOptions(
        host=host,
        port=port,
        size=size,
        delay_ms=delay_ms,
        limit=limit,
        drain_s=drain_s,
        fault=fault,
        fault_after=fault_after,
        fault_until=fault_until,
        serialization=serialization,
    )
    if stats_file is not None and not stats_file.absolute().parent.is_dir():
        raise UsageError(f"--stats-file {stats_file}: there is no such directory")

    def ready(host: str, port: int) -> None:
        print(f"demo provider ({size}) listens on {host}:{port}", flush=True)

    counts = json.dumps({"size": size, "limit": limit, **run(options, ready)._asdict()})
    print(counts, file=sys.stderr, flush=True)
    if stats_file is not None:
        try:
            stats_file.write_text(counts + "\n")
        except OSError as error:
            raise UsageError(f"--stats-file {stats_file}: {error.strerror}") from error
