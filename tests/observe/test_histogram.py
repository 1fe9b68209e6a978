"""The histogram: exact counts, quantiles within its stated error, exact merging."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.observe.histogram import Histogram

durations = st.floats(min_value=0, max_value=2e9, allow_nan=False)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(st.lists(durations, min_size=1))
def test_count_sum_and_extremes_are_exact(values: list[float]) -> None:
    histogram = filled(values)
    assert histogram.count == len(values)
    assert histogram.sum_us == pytest.approx(sum(values))
    assert (histogram.min_us, histogram.max_us) == (min(values), max(values))


@given(st.lists(st.floats(min_value=1, max_value=1e9), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_a_64th(values: list[float], q: float) -> None:
    exact = sorted(values)[min(int(q * len(values)), len(values) - 1)]
    assert filled(values).quantile(q) == pytest.approx(exact, rel=1 / 64 + 1e-9)


@given(st.lists(durations), st.lists(durations))
def test_merging_equals_recording_everything_in_one(left: list[float], right: list[float]) -> None:
    merged, by_snapshot, whole = filled(left), filled(left), filled(left + right)
    merged.merge(filled(right))
    by_snapshot.add_snapshot(filled(right).snapshot())
    for each in (merged, by_snapshot):
        assert each.snapshot()["buckets"] == whole.snapshot()["buckets"]
        assert (each.count, each.min_us, each.max_us) == (whole.count, whole.min_us, whole.max_us)


def test_the_edges_of_the_range_stay_within_it() -> None:
    histogram = filled([0, 0.5, 1, math.nextafter(1, 0), 2**30, 1e12, -5, math.nan, math.inf])
    buckets = dict(histogram.snapshot()["buckets"])
    assert buckets == {0: 5, 1: 1, 960: 3}
    assert histogram.count == 9


def test_every_bucket_edge_falls_into_its_own_bucket() -> None:
    for octave in range(30):
        for step in range(32):
            (found,) = filled([2.0**octave * (1 + step / 32)]).snapshot()["buckets"]
            assert found == (1 + octave * 32 + step, 1)


def test_counts_below_a_bucket_edge_are_exact() -> None:
    values = [random.Random(1).uniform(1, 1e6) for _ in range(1000)]
    histogram = filled(values)
    for edge in (128.0, 192.0, 65536.0):
        assert histogram.count_below(edge) == sum(value < edge for value in values)


def test_an_empty_histogram_has_no_quantiles() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.99) == 0
    histogram.record(5)
    histogram.clear()
    assert histogram.snapshot() == Histogram().snapshot()
    with pytest.raises(ValueError, match="expected 0 to 1"):
        histogram.quantile(1.5)


def test_a_snapshot_that_does_not_add_up_is_refused() -> None:
    histogram = Histogram()
    good = filled([3.0]).snapshot()
    for bad in ({**good, "count": 2}, {**good, "buckets": [(5000, 1)]}):
        with pytest.raises(ValueError, match="histogram"):
            histogram.add_snapshot(bad)
    assert histogram.count == 0
