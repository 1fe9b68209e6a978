"""python-hessian reads what is written here as the same values, of the types that it knows."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire.hessian2 import decode, encode
from dragoman.wire.java import Bean, enum

pyhessian = pytest.importorskip("pyhessian.parser", reason="python-hessian is not installed")

# It makes dates in a way that Python 3.12 warns about.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=40)
    | st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1)).map(
        lambda when: when.replace(microsecond=0, tzinfo=datetime.UTC)
    )
)
NAMES = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=10)
        | st.dictionaries(TEXT | st.integers(-(2**63), 2**63 - 1), inner, max_size=4)
        | st.builds(
            lambda name, fields: Bean(f"a.{name.title()}", fields),
            NAMES,
            st.dictionaries(NAMES, inner, min_size=1, max_size=4),
        )
    ),
    max_leaves=20,
)


def read(data: bytes) -> Any:
    """The value as python-hessian reads it."""
    return pyhessian.Parser().parse_string(b"H\x02\x00R" + data).value


def plain(value: Any) -> Any:
    """Both readers' values in one form."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Bean):
        return (value.java_class, {name: plain(each) for name, each in value.items()})
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if hasattr(value, "_hessian_field_names"):
        fields = {name: plain(each) for name, each in value.__getstate__().items()}
        return (f"{type(value).__module__}.{type(value).__name__}", fields)
    if type(value).__name__ == "Binary":
        return value.value
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None)
    return value


@given(VALUES)
def test_it_reads_the_same(value: Any) -> None:
    data = encode(value)
    assert decode(data) == value
    assert plain(read(data)) == plain(value)


@pytest.mark.parametrize("count", [0, 7, 8, 300])
def test_it_reads_lists_of_every_form(count: int) -> None:
    assert list(read(encode(list(range(count))))) == list(range(count))
    assert list(read(encode(list(range(count)), types=["int[]"]))) == list(range(count))


def test_it_reads_references_and_definitions_alike() -> None:
    shared = Bean("a.B", x=1)
    first, second, third = read(encode([shared, shared, Bean("a.B", x=2)]))
    assert first is second
    assert third.x == 2
    assert read(encode([enum("a.C", "X")] * 2))[1].name == "X"
