"""What the HTTP contracts make of requests, for the log."""

from __future__ import annotations

import pytest

from dragoman.agent.contract import called


@pytest.mark.parametrize(
    ("service", "json", "body", "says"),
    [
        ("a.B", True, b"a.B\0m\0\0\0{}", "m of a.B"),
        ("g/a.B", True, b"a.B\0m\0g\0\0{}", "m of g/a.B"),
        ("*", True, b"a.B\0m\0\0\0{}", "m of a.B"),
        ("*", False, b"interface=a.B&method=m&parameter=x", "m of a.B"),
        ("a.B", False, b"parameter=method%3Dx&method=m&interface=a.B", "m of a.B"),
        ("a.B", True, b"", "? of a.B"),
        ("*", False, b"", "? of ?"),
    ],
)
def test_a_log_line_names_what_was_called(service: str, json: bool, body: bytes, says: str) -> None:
    assert called(service, json, body) == says
