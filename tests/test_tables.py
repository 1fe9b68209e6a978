"""A table's test fails with every row that fails, by name, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tables import each_row


@each_row("row", [2, 4])
@each_row("factor", [1, 3], names=["once", "thrice"])
def test_rows_and_fixtures_come_together(row: int, factor: int, tmp_path: Path) -> None:
    assert row * factor % 2 == 0
    assert tmp_path.is_dir()


def test_every_failing_row_is_named() -> None:
    seen = []

    @each_row("row", [1, 2, 3, 4], names=["one", "two", "three", "four"])
    def check(row: int) -> None:
        seen.append(row)
        if row == 3:
            raise KeyError("of another kind")
        assert row % 2, "even"

    with pytest.raises(AssertionError) as raised:
        check()
    assert seen == [1, 2, 3, 4]
    said = str(raised.value).splitlines()
    assert said[0] == "3 of 4 rows:"
    rows = [line for line in said[1:] if not line.startswith(" ")]
    assert [line.split(":")[0] for line in rows] == ["two", "three", "four"]
    assert "KeyError" in rows[1]


def test_a_table_without_rows_or_with_a_name_twice_is_refused() -> None:
    for rows, names in (([], []), ([1, 2], ["a", "a"])):
        with pytest.raises(AssertionError, match="names of their own"):
            each_row("row", rows, names=names)
