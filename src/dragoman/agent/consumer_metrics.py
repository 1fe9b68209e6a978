"""The metrics of a consumer agent: its HTTP side, its services and their endpoints.

Called by ``agent.consumer`` when they are asked for.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from dragoman.agent.ingress import Ingress
from dragoman.cluster.directory import Directory
from dragoman.observe.metrics import Snapshot
from dragoman.registry.base import Registry
from dragoman.registry.report import add_registry_metrics

# Services that are added in one tick of the loop: about a millisecond.
SERVICES_A_TICK: Final = 20

# The name of a counter, its place in the status, and its help.
SERVICE_COUNTERS: Final = (
    ("dragoman_service_requests_total", "requests", "Requests."),
    ("dragoman_service_shed_total", "shed", "Requests turned away because too many were waiting."),
    ("dragoman_service_retried_total", "retried", "Requests tried again elsewhere."),
    ("dragoman_service_deadlines_total", "expired", "Requests whose deadline passed."),
)


async def snapshot(ingress: Ingress, directory: Directory, registry: Registry) -> Snapshot:
    """All of them. Between services the loop does other work."""
    out = Snapshot()
    _add_http(out, ingress)
    out.gauge("dragoman_services", len(directory.services), "Services known from the registry.")
    for number, service in enumerate(await directory.status(), 1):
        if number % SERVICES_A_TICK == 0:
            await asyncio.sleep(0)
        _add_service(out, service)
        for endpoint in service["endpoints"]:
            _add_endpoint(out, service["service"], endpoint)
    add_registry_metrics(out, registry.statistics())
    return out


def _add_http(out: Snapshot, ingress: Ingress) -> None:
    out.counter("dragoman_http_requests_total", ingress.requests, "HTTP requests received.")
    out.counter("dragoman_http_responses_total", ingress.succeeded, "HTTP responses.", code="ok")
    for name, count in sorted(ingress.errors.items()):
        out.counter("dragoman_http_responses_total", count, "HTTP responses.", code=name)
    abandoned = "Requests whose client left before the response."
    out.counter("dragoman_http_abandoned_total", ingress.abandoned, abandoned)
    out.counter("dragoman_http_accepted_total", ingress.accepted, "HTTP connections accepted.")
    connections = len(ingress.connections)
    out.gauge("dragoman_http_connections", connections, "HTTP connections now open.")
    out.gauge("dragoman_http_in_progress", ingress.in_progress, "HTTP requests in progress.")
    out.histogram("dragoman_http_latency_seconds", ingress.latency, "From request to response.")


def _add_service(out: Snapshot, service: dict[str, Any]) -> None:
    name = service["service"]
    for counter, place, text in SERVICE_COUNTERS:
        out.counter(counter, service[place], text, service=name)
    waiting = "Requests waiting for credit."
    out.gauge("dragoman_service_waiting", service["waiting"], waiting, service=name)
    served = "Whether a service has an endpoint that takes part."
    out.gauge("dragoman_service_served", float(service["served"]), served, service=name)


def _add_endpoint(out: Snapshot, service: str, endpoint: dict[str, Any]) -> None:
    labels = {"service": service, "endpoint": endpoint["address"]}
    requests = "Requests sent to an endpoint."
    out.counter("dragoman_endpoint_requests_total", endpoint["requests"], requests, **labels)
    failures = "Requests to an endpoint that failed there."
    out.counter("dragoman_endpoint_failures_total", endpoint["failures"], failures, **labels)
    inflight = "Requests in flight to an endpoint."
    out.gauge("dragoman_endpoint_inflight", endpoint["inflight"], inflight, **labels)
    credits = "Unused credits of an endpoint."
    out.gauge("dragoman_endpoint_credits", endpoint["credits"], credits, **labels)
    ready = float(endpoint["state"] == "ready" and not endpoint["breaker_open"])
    out.gauge("dragoman_endpoint_ready", ready, "Whether an endpoint takes part.", **labels)
