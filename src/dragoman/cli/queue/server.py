"""``dragoman queue serve``: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from dragoman.errors import UsageError


def serve(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The store's directory")],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one")
    ] = "127.0.0.1:7400",
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where to register it: etcd://host:port, static://host:port or memory://name"
            "  \\[default: nowhere]",
            envvar="DRAGOMAN_REGISTRY",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to register it as  \\[default: dragoman.queues]")
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="The host to register, if it listens on every address"),
    ] = None,
    durability: Annotated[str, typer.Option(help="none, interval(MS) or always")] = "interval(100)",
    memory_mib: Annotated[
        int, typer.Option("--memory-mib", min=1, help="What the store may use, MiB")
    ] = 1335,
    retention_s: Annotated[
        float | None, typer.Option("--retention-s", help="Keep messages so many seconds")
    ] = None,
    retention_bytes: Annotated[
        int | None, typer.Option("--retention-bytes", help="Keep so many bytes of segments")
    ] = None,
    retention_messages: Annotated[
        int | None, typer.Option("--retention-messages", help="Keep so many messages of each queue")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Requests taken at once")] = 10_000,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
) -> None:
    """Open a store and serve it to other processes until SIGTERM or Ctrl-C."""
    import uvloop

    from dragoman.cli.queue.serving import Settings, run

    if registry is None and (name is not None or advertise is not None):
        raise UsageError("--name and --advertise are for the registry: give --registry")
    uvloop.run(
        run(
            Settings(
                path=path,
                listen=listen,
                registry=registry,
                name=name,
                advertise=advertise,
                limit=limit,
                log_level=log_level,
                store={
                    "durability": durability,
                    "memory_bytes": memory_mib << 20,
                    "retention_s": retention_s,
                    "retention_bytes": retention_bytes,
                    "retention_messages": retention_messages,
                },
            )
        )
    )
