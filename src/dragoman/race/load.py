"""The load generator as a program: ``python -m dragoman.race.load --json URL``.

The race runs it as a process of its own; what it prints is a contract:

    connections   as asked for
    duration_s    the time measured, without the warm-up
    requests      answers of any status that came within that time
    good          those of status 2xx or 3xx, and with the right hash where that is checked
    qps           good answers a second
    errors        how many of each kind: status_NNN, wrong, connect, reset, timeout, malformed
    latency_ms    mean, min, max, p50, p90, p99, p99_9 of all answers
    cpu_s         user and system time of this process while it measured

Bad options end with one line and exit code 2; a load without a good answer is still a result.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dragoman.errors import UsageError
from dragoman.race.closed_loop import ClosedLoop
from dragoman.reasons import reason
from dragoman.wire.http1 import encode_request, encode_request_head

FORM = "application/x-www-form-urlencoded"


def run_load(
    url: str,
    *,
    connections: int,
    duration_s: float,
    warmup_s: float = 0.0,
    timeout_s: float = 10.0,
    spread_s: float = 0.1,
    method: str = "GET",
    body: bytes = b"",
    content_type: str | None = None,
    form_hash: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Apply the load from this thread and return the figures; ``UsageError`` for bad arguments."""
    if connections < 1 or duration_s <= 0 or warmup_s < 0 or timeout_s <= 0 or spread_s < 0:
        raise UsageError("load: connections, duration and timeout must be positive")
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        raise UsageError(f"load: {url}: expected a port from 1 to 65535") from None
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"load: http://HOST:PORT/PATH was expected, not {url!r}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    try:
        address = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"load: {parts.hostname}: {reason(error)}") from error
    allow_descriptors(connections + 32)
    form_head = None
    request = None
    if form_hash:
        form_head = encode_request_head("POST", target, host=host, content_type=FORM)
    else:
        request = encode_request(method, target, host=host, body=body, content_type=content_type)
    return ClosedLoop(
        address,
        connections=connections,
        duration_s=duration_s,
        warmup_s=warmup_s,
        timeout_s=timeout_s,
        spread_s=spread_s,
        request=request,
        form_head=form_head,
        head_only=method == "HEAD",
        seed=seed,
    ).run()


def allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files to ``count``; ``UsageError`` if the hard one is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise UsageError(f"load: {count} open files are needed, the limit is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m dragoman.race.load", description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("url", help="http://HOST:PORT/PATH")
    options.add_argument("--connections", "-c", type=int, default=64)
    options.add_argument("--duration", "-d", type=float, default=10.0, help="seconds measured")
    options.add_argument("--warmup", type=float, default=0.0, help="seconds before that")
    options.add_argument("--timeout", type=float, default=10.0, help="seconds for one answer")
    options.add_argument(
        "--spread", type=float, default=0.1, help="seconds over which the connections start"
    )
    options.add_argument("--method", default="GET")
    options.add_argument("--body-file", type=Path, help="the body of each request")
    options.add_argument("--content-type", help="of that body")
    options.add_argument(
        "--form-hash", action="store_true", help="post random forms and check each hash"
    )
    options.add_argument("--seed", type=int, default=0, help="of the random forms; 0 is random")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    return options


def describe(figures: dict[str, Any]) -> str:
    """The figures for a reader."""
    latency = figures["latency_ms"]
    errors = ", ".join(f"{kind} {count}" for kind, count in figures["errors"].items()) or "none"
    return (
        f"{figures['connections']} connections, {figures['duration_s']:.2f} s: "
        f"{figures['qps']:.0f} good answers/s, errors: {errors}\n"
        "latency ms: " + ", ".join(f"{name} {value:.3f}" for name, value in latency.items())
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        body = options.body_file.read_bytes() if options.body_file else b""
        figures = run_load(
            options.url,
            connections=options.connections,
            duration_s=options.duration,
            warmup_s=options.warmup,
            timeout_s=options.timeout,
            spread_s=options.spread,
            method=options.method,
            body=body,
            content_type=options.content_type,
            form_hash=options.form_hash,
            seed=options.seed,
        )
    except (UsageError, OSError) as error:
        print(f"load: {reason(error)}" if isinstance(error, OSError) else error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(json.dumps(figures) if options.json else describe(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
