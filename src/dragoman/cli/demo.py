"""``dragoman demo``: the services that the race drives."""

from __future__ import annotations

from typing import Annotated

import typer

demo = typer.Typer(
    help="The demo provider and consumer that the race drives.", no_args_is_help=True
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
