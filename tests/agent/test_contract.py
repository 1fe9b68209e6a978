"""What the HTTP contracts make of requests, for the log."""

from __future__ import annotations

import inspect

import pytest

from dragoman.agent.contract import REMEMBERED, asked_for, called, form_service, json_call
from dragoman.errors import DragomanError, NotFoundError, UsageError


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


def test_names_that_callers_choose_are_remembered_in_bounds() -> None:
    """In number and in length; what is refused is refused again."""
    known = inspect.getclosurevars(asked_for).nonlocals["known"]
    for number in range(3_000):
        asked = asked_for(b"/com.example.Of%d/m" % number, b"", b"1.0")
        assert asked.names == b"com.example.Of%d\0m\0\x001.0\0" % number
        assert asked.key == b"com.example.Of%d:1.0" % number
    assert known.cache_info().currsize == REMEMBERED
    misses = known.cache_info().misses
    long = asked_for(b"/a.%b/m" % (b"x" * 300), b"g", b"")
    assert long.interface == "a." + "x" * 300
    assert known.cache_info().misses == misses
    for _ in range(2):
        with pytest.raises(NotFoundError):
            asked_for(b"/a.B", b"", b"")
        with pytest.raises(UsageError, match="x-dragoman-group"):
            form_service(b"a.B", b"g/h", b"")
    assert form_service(b"a%2EB", b"g", b"1") == ("a.B", "g", "1")


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (b"/a.B", b"{", "path"),
        (b"/a b/m", b"{", "interface: "),
        (b"/a.B/m", b"{", "body: "),
        (b"/a.B/m", b'{"group":"g/h"}', "group: "),
    ],
)
def test_the_first_thing_that_is_wrong_is_told(path: bytes, body: bytes, why: str) -> None:
    with pytest.raises(DragomanError, match=why):
        json_call(path, b"", b"", body)
