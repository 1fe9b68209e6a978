"""Log lines: one an event, without secrets."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from dragoman.errors import UsageError
from dragoman.observe.logs import redact, set_up_logging
from dragoman.observe.repeats import KINDS_MAX, LINES_MAX, WINDOW_S, RepeatFilter


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    set_up_logging("info", "consumer[1]", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_line_whatever_it_holds(stream: io.StringIO) -> None:
    log = logging.getLogger("dragoman.registry")
    log.info("line\nbreak\r\x1b[31m and \u2028 %s", "a\nb")
    try:
        raise ValueError("several\nlines")
    except ValueError:
        log.exception("failed")
    log.debug("not asked for")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert " info consumer[1] registry: line\\nbreak\\r\\x1b[31m and \\u2028 a\\nb" in lines[0]
    assert "failed; ValueError (test_logs.py:" in lines[1] and "several" not in lines[1]


def test_credentials_never_reach_a_line(stream: io.StringIO) -> None:
    log = logging.getLogger("dragoman.registry")
    log.info("opening %s", "etcd://root:hunter2@10.0.0.1:2379,10.0.0.2/x")
    log.info("sent Authorization: Bearer abc.def and password=geheim")
    text = stream.getvalue()
    assert "10.0.0.1:2379" in text
    for secret in ("hunter2", "root:", "abc.def", "geheim"):
        assert secret not in text


def test_a_password_with_an_at_sign_is_redacted_whole() -> None:
    assert redact("etcd://u:p@ss@host:1/p") == "etcd://***@host:1/p"


def test_an_unknown_level_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="expected one of debug, info, warning, error"):
        set_up_logging("loud", "x")


class Lines:
    """A repeat filter before a list, on a clock that the test moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.written: list[str] = []
        self.filter = RepeatFilter(
            lambda record: self.written.append(record.getMessage()), lambda: self.time
        )

    def log(self, message: str, *args: object) -> None:
        record = logging.LogRecord("dragoman.x", logging.WARNING, "", 0, message, args, None)
        if self.filter.filter(record):
            self.written.append(record.getMessage())


def test_lines_that_repeat_are_counted_whatever_they_are_about() -> None:
    lines = Lines()
    for peer in range(10_000):
        lines.log("%s: bad magic", peer)
    lines.log("something else")
    assert len(lines.written) == LINES_MAX + 1
    lines.time = WINDOW_S
    lines.log("%s: bad magic", "again")
    assert lines.written[LINES_MAX + 1 :] == [
        "9990 more lines like this one: 9999: bad magic",
        "again: bad magic",
    ]


def test_the_kinds_of_lines_that_are_counted_are_bounded() -> None:
    lines = Lines()
    for kind in range(5 * KINDS_MAX):
        lines.log(f"kind {kind}")
    assert len(lines.filter._kinds) <= KINDS_MAX


def test_the_count_is_written_though_nothing_follows(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.observe.repeats.WINDOW_S", 0.01)
    set_up_logging("info", "consumer[1]", stream)
    log = logging.getLogger("dragoman.registry")

    async def burst_then_silence() -> None:
        for _ in range(LINES_MAX + 5):
            log.warning("again")
        assert stream.getvalue().count("again") == LINES_MAX
        async with asyncio.timeout(60):
            while "5 more lines like this one: again" not in stream.getvalue():
                await asyncio.sleep(0.01)

    asyncio.run(burst_then_silence())
