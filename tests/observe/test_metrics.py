"""Snapshots: built, sent, merged and rendered."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragoman.errors import UsageError
from dragoman.observe.histogram import Histogram
from dragoman.observe.metrics import Snapshot, merge, render, without_gauges


def sample(requests: int, open_now: int, latency_us: float) -> Snapshot:
    histogram = Histogram()
    histogram.record(latency_us)
    snapshot = Snapshot()
    snapshot.counter("dragoman_requests_total", requests, "Requests answered.", code="200")
    snapshot.counter("dragoman_requests_total", 1, "Requests answered.", code="503")
    snapshot.gauge("dragoman_connections_open", open_now, "Connections open now.")
    snapshot.histogram("dragoman_request_seconds", histogram, "Time to the answer.")
    return snapshot


def test_merging_sums_everything_by_name_and_labels() -> None:
    merged = merge([sample(3, 1, 100), sample(4, 2, 200)])
    assert merged.get("dragoman_requests_total", code="200") == 7
    assert merged.get("dragoman_requests_total") == 9
    assert merged.get("dragoman_connections_open") == 3
    assert merged.get("dragoman_request_seconds") == 2


def test_merging_does_not_depend_on_the_grouping() -> None:
    parts = [sample(1, 2, 10), sample(3, 4, 1000), sample(5, 6, 100000)]
    assert merge(parts) == merge([merge(parts[:2]), parts[2]])


def test_a_snapshot_survives_the_wire() -> None:
    snapshot = sample(3, 1, 50_000)
    again = msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot)
    assert render(again) == render(snapshot)
    assert merge([again, snapshot]).get("dragoman_requests_total", code="200") == 6


def test_the_gauges_of_a_worker_that_is_gone_count_no_more() -> None:
    gone = without_gauges(sample(3, 5, 1))
    assert gone.get("dragoman_connections_open") == 0
    assert gone.get("dragoman_requests_total", code="200") == 3


def test_prometheus_reads_what_is_rendered() -> None:
    text = render(sample(3, 1, 50_000)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["dragoman_requests"].type == "counter"
    assert {s.labels["code"]: s.value for s in families["dragoman_requests"].samples} == {
        "200": 3,
        "503": 1,
    }
    buckets = {
        s.labels["le"]: s.value
        for s in families["dragoman_request_seconds"].samples
        if s.name.endswith("_bucket")
    }
    assert buckets["0.049152"] == 0
    assert buckets["0.065536"] == 1
    assert buckets["+Inf"] == 1
    assert "# HELP dragoman_connections_open Connections open now." in text


def test_names_without_a_unit_or_prefix_are_refused() -> None:
    snapshot = Snapshot()
    with pytest.raises(UsageError, match="dragoman_requests_total"):
        snapshot.gauge("requests", 1, "x")
    with pytest.raises(UsageError, match="ends with _total"):
        snapshot.counter("dragoman_requests", 1, "x")
    with pytest.raises(UsageError, match="ends with _seconds"):
        snapshot.histogram("dragoman_latency", Histogram(), "x")


def test_one_name_of_two_kinds_is_refused() -> None:
    left, right = Snapshot(), Snapshot()
    left.gauge("dragoman_things_total", 1, "x")
    right.counter("dragoman_things_total", 1, "x")
    with pytest.raises(UsageError, match="is both gauge and counter"):
        merge([left, right])
