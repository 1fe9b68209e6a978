"""``dragoman agent``: the sidecar beside a consumer or a provider.

Options, ``DRAGOMAN_*`` variables and a TOML file say the same things; ``dragoman.agent.config``
reads them all, so options arrive there as text and are checked in one place.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dragoman.cli.words import REGISTRIES, Commands

_SOURCES = (
    "Every option may also stand in a variable (DRAGOMAN_TIMEOUT_MS for --timeout-ms) or in the "
    "file named by --config or DRAGOMAN_CONFIG (timeout_ms in its table \\[{table}]). An option "
    "overrides a variable, a variable overrides the file."
)

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="A TOML file with these settings."),
]
RegistryUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help=f"Who serves what: {REGISTRIES}. Others on the machine see options: give a password "
        "in DRAGOMAN_REGISTRY.  \\[default: etcd://127.0.0.1:2379]",
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(metavar="N", help="Worker processes; one a core is enough.  \\[default: 1]"),
]
Admin = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where to serve /healthz, /readyz, /metrics and /status.  \\[default: nowhere]",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        metavar="MS", help="How long a request may take, in milliseconds.  \\[default: 5000]"
    ),
]
TimeoutMost = Annotated[
    str | None,
    typer.Option(
        metavar="MS",
        help="The longest that a request may take, whatever its caller allows.  "
        "\\[default: 600000]",
    ),
]
BodyMax = Annotated[
    str | None,
    typer.Option(
        metavar="BYTES", help="The largest body of a request or reply.  \\[default: 8388608]"
    ),
]
ConnectionsMax = Annotated[
    str | None,
    typer.Option(metavar="N", help="Connections a worker accepts at once.  \\[default: 16384]"),
]
MemoryMax = Annotated[
    str | None,
    typer.Option(
        metavar="MIB",
        help="Memory a worker may use: it sheds from 85 % and refuses from 95 %.  "
        "0 takes the container's limit, if there is one, shared among the workers.  "
        "\\[default: 0]",
    ),
]
Drain = Annotated[
    str | None,
    typer.Option(
        metavar="MS",
        help="After SIGTERM, how long to finish what is in flight.  \\[default: 8000]",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(metavar="LEVEL", help="debug, info, warning or error.  \\[default: info]"),
]


def consumer(
    config: Config = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to take HTTP requests; port 0 takes a free one.  "
            "\\[default: 127.0.0.1:20000]",
        ),
    ] = None,
    registry: RegistryUrl = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which endpoint gets the next request: demand (whoever granted a credit), "
            "least-active, p2c, weighted-round-robin, round-robin, weighted-random or random.  "
            "\\[default: demand]",
        ),
    ] = None,
    queue_max: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Requests that may wait for an endpoint; more are refused with 503.  "
            "\\[default: 4096]",
        ),
    ] = None,
    workers: Workers = None,
    admin: Admin = None,
    timeout_ms: Timeout = None,
    header_timeout_ms: Annotated[
        str | None,
        typer.Option(
            metavar="MS", help="How long a client may take to send a head.  \\[default: 10000]"
        ),
    ] = None,
    body_timeout_ms: Annotated[
        str | None,
        typer.Option(
            metavar="MS", help="How long a client may take to send a body.  \\[default: 60000]"
        ),
    ] = None,
    body_rate_min: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="The least a body must come at, in bytes a second, from its sixth second on.  "
            "\\[default: 1024]",
        ),
    ] = None,
    allow_get: Annotated[
        bool | None,
        typer.Option(
            "--allow-get",
            help="Take calls by GET too, with the arguments in the query.  \\[default: only POST]",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A Host that requests may be for, with or without a port; may be repeated.  "
            "\\[default: any]",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="An origin whose web pages may call, such as https://app.example.com, or * for "
            "all; may be repeated.  \\[default: none]",
        ),
    ] = None,
    idle_timeout_ms: Annotated[
        str | None,
        typer.Option(
            metavar="MS", help="How long a connection may stay unused.  \\[default: 60000]"
        ),
    ] = None,
    takeover: Annotated[
        bool | None,
        typer.Option(
            "--takeover",
            help="If an agent of this user listens there already, take its place: it passes its "
            "listening sockets on, and drains when this one is ready.",
        ),
    ] = None,
    head_bytes_max: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="The largest head of a request.  \\[default: 16384]"),
    ] = None,
    body_bytes_max: BodyMax = None,
    connections_max: ConnectionsMax = None,
    memory_mib_max: MemoryMax = None,
    drain_ms: Drain = None,
    log_level: LogLevel = None,
) -> None:
    """Take HTTP requests from the program beside it and carry them to a provider's agent."""
    options = {name: value for name, value in locals().items() if name != "config"}
    from dragoman.agent.config import ConsumerConfig, load

    loaded = load(
        ConsumerConfig,
        "consumer",
        options=options,
        environment=os.environ,
        file=_config_file(config),
    )
    from dragoman.agent.runtime import run

    sys.exit(run(loaded))


def provider(
    config: Config = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve consumers' agents; each worker takes the next port up, and with "
            "port 0 a free one.  \\[default: 127.0.0.1:30000]",
        ),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The address to register, where others reach this agent.  "
            "\\[default: where it listens]",
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The Dubbo provider beside it.  \\[default: 127.0.0.1:20880]",
        ),
    ] = None,
    interface: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An interface the provider serves, such as com.example.IHello; may be repeated. "
            "Calls to any other are refused.",
        ),
    ] = None,
    allow_any_interface: Annotated[
        bool | None,
        typer.Option(
            "--allow-any-interface",
            help="Pass on calls to every interface that a caller names, registered or not.",
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The Dubbo group of the service.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The Dubbo version of the service.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Where this provider runs.")
    ] = None,
    serialization: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the provider is asked in: hessian2, fastjson2, fastjson, fastjson-lengths, "
            "or auto: the first of these that it answers when it is connected to. Replies are "
            "understood in each.  \\[default: auto]",
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The path that the provider serves its interface under, if that is not the "
            "interface's name; one that ends with / is a context path before the name.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The token that the provider asks for. Other users of the machine see options: "
            "give it in DRAGOMAN_TOKEN instead.",
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Its capacity relative to other providers.  "
            "\\[default: 1; 100 in zookeeper and nacos, as Java's]",
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Requests the provider runs at once; no more are sent. auto learns it.  "
            "\\[default: 200]",
        ),
    ] = None,
    connections: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Dubbo connections of each worker to the provider.  \\[default: 1]"
        ),
    ] = None,
    probe_ms: Annotated[
        str | None,
        typer.Option(
            metavar="MS",
            help="Call the provider's $echo this often; one that has not answered by the next time "
            "gets no requests until it does. 0 never.  \\[default: 0]",
        ),
    ] = None,
    registry: RegistryUrl = None,
    lease_ttl_s: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="How long the registration outlives an agent that is killed.  \\[default: 10]",
        ),
    ] = None,
    workers: Workers = None,
    admin: Admin = None,
    timeout_ms: TimeoutMost = None,
    body_bytes_max: BodyMax = None,
    connections_max: ConnectionsMax = None,
    memory_mib_max: MemoryMax = None,
    drain_ms: Drain = None,
    log_level: LogLevel = None,
) -> None:
    """Take requests from consumers' agents and put them to the Dubbo provider beside it."""
    options = {name: value for name, value in locals().items() if name != "config"}
    from dragoman.agent.config import ProviderConfig, load

    loaded = load(
        ProviderConfig,
        "provider",
        options=options,
        environment=os.environ,
        file=_config_file(config),
    )
    from dragoman.agent.runtime import run

    sys.exit(run(loaded))


def _config_file(option: Path | None) -> Path | None:
    if option is not None:
        return option
    named = os.environ.get("DRAGOMAN_CONFIG")
    return Path(named) if named else None


def _renamed(option: str) -> str:
    """Today's name of an option; one of former days is understood, and not shown."""
    return "memory-mib-max" if option == "memory-mb-max" else option


def register(app: typer.Typer) -> None:
    """Add the commands of this family to ``app``."""
    agent = typer.Typer(
        cls=Commands,
        help="The sidecar: run one beside every consumer and every provider.",
        no_args_is_help=True,
        add_completion=False,
    )
    settings = {"token_normalize_func": _renamed}
    for command in (consumer, provider):
        epilog = _SOURCES.format(table=command.__name__)
        agent.command(epilog=epilog, context_settings=settings)(command)
    app.add_typer(agent, name="agent")
