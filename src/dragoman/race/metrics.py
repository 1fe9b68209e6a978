"""Reading the agents' Prometheus pages.

Called at the borders of a level and once a second within it. The invariant: a page that cannot be
had, or a metric that an agent does not have, yields nothing rather than failing the race: figures
are then null.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from dragoman.race import http

log = logging.getLogger(__name__)

ENDPOINT_REQUESTS = "dragoman_endpoint_requests_total"
HTTP_RESPONSES = "dragoman_http_responses_total"
ENDPOINT_INFLIGHT = "dragoman_endpoint_inflight"
PROVIDER_REJECTIONS = "dragoman_provider_rejections_total"


@dataclass(frozen=True, slots=True)
class Page:
    """The samples of one page."""

    samples: tuple[tuple[str, dict[str, str], float], ...] = ()

    def by_label(self, metric: str, label: str) -> dict[str, float]:
        """The metric's values by one label, the other labels summed; empty if there is none."""
        found: dict[str, float] = {}
        for name, labels, value in self.samples:
            if name == metric and label in labels:
                found[labels[label]] = found.get(labels[label], 0.0) + value
        return found

    def total(self, metric: str) -> float | None:
        """The metric summed over all labels, or None if the page lacks it."""
        values = [value for name, _, value in self.samples if name == metric]
        return sum(values) if values else None


def parse(text: str) -> Page:
    """The page's samples; ValueError if it is not in the exposition format."""
    return Page(
        tuple(
            (sample.name, dict(sample.labels), float(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        )
    )


def fetch(admin_port: int) -> Page:
    """The page of the agent whose admin pages are at ``admin_port``; empty if it cannot be had."""
    url = f"http://127.0.0.1:{admin_port}/metrics"
    try:
        status, text = http.get(url)
        if status == 200:
            return parse(text)
        log.warning("GET %s: status %d", url, status)
    except (http.HttpError, ValueError) as error:
        log.warning("%s: %s", url, error)
    return Page()
