"""What bounds of time go by in these tests, tested itself."""

from __future__ import annotations

import gc
import re
from pathlib import Path

from tests.calibration import alone, piece_s, pieces_of, too_many_pieces
from tests.load_factor import load_factor

ROOT = Path(__file__).parent.parent
# A clock compared with a number alone: no bound on this machine is one on another.
SECONDS = re.compile(
    r"(monotonic|perf_counter|process_time|thread_time)\(\) - [\w.]+ <=? ?[\d.]++(?! \* )"
)


def test_a_piece_is_a_piece_and_ten_are_ten() -> None:
    assert 0.2 < pieces_of(piece_s, 1.5) < 5
    ten = pieces_of(lambda: [piece_s() for _ in range(10)], 12)
    assert 3 < ten < 30
    assert gc.get_freeze_count() == 0


def test_what_is_too_much_is_found() -> None:
    # A piece is not to pay for what other tests have left to the collector.
    with alone():
        spent_s = piece_s()
    assert not too_many_pieces(spent_s, 10)
    assert too_many_pieces(sum(piece_s() for _ in range(60)), 10)


def test_the_load_factor_is_at_least_one() -> None:
    assert load_factor() >= 1


def test_no_test_holds_a_clock_to_seconds() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("tests", "fuzz")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        # Loops that go on for so long are no bounds.
        if "assert" in line and SECONDS.search(line)
    ]
    assert found == [], "scale it by tests.load_factor.load_factor() or tests.calibration"
