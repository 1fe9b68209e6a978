"""A program's report about itself: a snapshot of counters, gauges and histograms.

Hot classes keep plain C integers and a ``Histogram``; once asked (a scrape, the race's report),
whoever owns them fills a ``Snapshot``. Workers send theirs to the supervisor, which merges them:
counters and histograms are summed, and so are gauges. ``render`` gives Prometheus's text. The
invariant: merging any partition of the workers gives the same result.

Names start with ``dragoman_``, end with their unit (``_seconds``, ``_bytes``), counters with
``_total``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dragoman.errors import UsageError
from dragoman.observe.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[tuple[str, str], ...]

_NAME = re.compile(r"dragoman_[a-z][a-z0-9_]*[a-z0-9]")

# Edges of Histogram's buckets, two to the octave from 128 us to 67 s, so that the counts are exact.
EDGES_US: Final = (
    *(float(1 << octave) * step for octave in range(7, 26) for step in (1.0, 1.5)),
    float(1 << 26),
)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One counter, gauge or histogram with its labels; ``histogram`` as ``Histogram.snapshot``."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    value: float = 0.0
    histogram: dict[str, Any] | None = None


class Snapshot(msgspec.Struct):
    """Samples, in the order they were added. Encodes to JSON with ``msgspec.json.encode``."""

    samples: list[Sample] = []

    def counter(self, name: str, value: float, help: str, **labels: str) -> None:
        """Add a count that only grows; ``name`` ends with ``_total``."""
        if not name.endswith("_total"):
            raise UsageError(f"counter {name}: expected a name that ends with _total")
        self._add(name, "counter", help, labels, value=value)

    def gauge(self, name: str, value: float, help: str, **labels: str) -> None:
        """Add a value that goes up and down, and sums over workers."""
        self._add(name, "gauge", help, labels, value=value)

    def histogram(self, name: str, value: Histogram, help: str, **labels: str) -> None:
        """Add a histogram of durations; ``name`` ends with ``_seconds``."""
        if not name.endswith("_seconds"):
            raise UsageError(f"histogram {name}: expected a name that ends with _seconds")
        self._add(name, "histogram", help, labels, histogram=value.snapshot())

    def get(self, name: str, **labels: str) -> float:
        """The sum of all samples called ``name`` that have at least ``labels`` (for tests,
        reports).

        A histogram counts with its number of recordings.
        """
        wanted = set(labels.items())
        return sum(
            sample.histogram["count"] if sample.histogram is not None else sample.value
            for sample in self.samples
            if sample.name == name and wanted <= set(sample.labels)
        )

    def _add(
        self,
        name: str,
        kind: Kind,
        help: str,
        labels: dict[str, str],
        *,
        value: float = 0.0,
        histogram: dict[str, Any] | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"metric {name!r}: expected a name such as dragoman_requests_total")
        self.samples.append(
            Sample(
                name=name,
                kind=kind,
                help=help,
                labels=tuple(sorted(labels.items())),
                value=value,
                histogram=histogram,
            )
        )


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of ``snapshots``, sample by sample of equal name and labels."""
    first: dict[tuple[str, Labels], Sample] = {}
    values: dict[tuple[str, Labels], float] = {}
    histograms: dict[tuple[str, Labels], Histogram] = {}
    for snapshot in snapshots:
        for sample in snapshot.samples:
            key = (sample.name, sample.labels)
            if first.setdefault(key, sample).kind != sample.kind:
                raise UsageError(
                    f"metric {sample.name} is both {first[key].kind} and {sample.kind}"
                )
            values[key] = values.get(key, 0.0) + sample.value
            if sample.histogram is not None:
                histograms.setdefault(key, Histogram()).add_snapshot(sample.histogram)
    return Snapshot(
        [
            msgspec.structs.replace(
                sample,
                value=values[key],
                histogram=histograms[key].snapshot() if key in histograms else None,
            )
            for key, sample in first.items()
        ]
    )


def without_gauges(snapshot: Snapshot) -> Snapshot:
    """The figures of a worker that is gone which still count."""
    return Snapshot([sample for sample in snapshot.samples if sample.kind != "gauge"])


def render(snapshot: Snapshot) -> bytes:
    """Prometheus's text format, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SnapshotCollector(snapshot))
    return generate_latest(registry)


class _SnapshotCollector(Collector):
    """Hands a snapshot to prometheus-client, samples of one name as one family."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Nothing is checked for duplicates: the registry holds this collector alone."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The families of the snapshot, in order of their first sample."""
        families: dict[str, Metric] = {}
        for sample in self._snapshot.samples:
            family = families.get(sample.name)
            if family is None:
                families[sample.name] = family = _family(sample)
            _fill(family, sample)
        return iter(families.values())


def _family(sample: Sample) -> Metric:
    names = [name for name, _ in sample.labels]
    if sample.kind == "counter":
        return CounterMetricFamily(sample.name.removesuffix("_total"), sample.help, labels=names)
    if sample.kind == "gauge":
        return GaugeMetricFamily(sample.name, sample.help, labels=names)
    return HistogramMetricFamily(sample.name, sample.help, labels=names)


def _fill(family: Metric, sample: Sample) -> None:
    values = [value for _, value in sample.labels]
    if isinstance(family, HistogramMetricFamily):
        histogram = Histogram()
        if sample.histogram is not None:
            histogram.add_snapshot(sample.histogram)
        buckets: list[tuple[str, float]] = [
            (f"{edge / 1e6:g}", float(histogram.count_below(edge))) for edge in EDGES_US
        ]
        buckets.append(("+Inf", float(histogram.count)))
        family.add_metric(values, buckets, histogram.sum_us / 1e6)
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric(values, sample.value)
