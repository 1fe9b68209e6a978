"""Which endpoint a key belongs to."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.balance.affinity import home_of

NAMES = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8, unique=True)
KEYS = [b"key %d" % number for number in range(3000)]


@given(NAMES, st.binary(max_size=40), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_list(names, key, source) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(names)
    source.shuffle(shuffled)
    assert home_of(names, key) == home_of(shuffled, key)


@given(NAMES, st.binary(max_size=40), st.data())
def test_when_one_goes_only_its_own_keys_move(names: list[str], key: bytes, data) -> None:  # type: ignore[no-untyped-def]
    gone = data.draw(st.sampled_from(names))
    before = home_of(names, key)
    after = home_of([name for name in names if name != gone], key)
    if before == gone:
        assert after != gone
    else:
        assert after == before


def test_keys_are_spread_by_weight() -> None:
    names = ["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"]
    even = Counter(home_of(names, key) for key in KEYS)
    assert all(even[name] == pytest.approx(1000, rel=0.12) for name in names)
    weighed = Counter(home_of(names, key, [1, 2, 3]) for key in KEYS)
    assert [weighed[name] for name in names] == [
        pytest.approx(500, rel=0.15),
        pytest.approx(1000, rel=0.12),
        pytest.approx(1500, rel=0.12),
    ]


def test_nobody_has_the_keys_of_an_empty_list() -> None:
    assert home_of([], b"key") is None
