"""Log lines: one an event, without secrets."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from dragoman.errors import UsageError
from dragoman.observe.logs import redact, set_up_logging


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
    assert "failed; ValueError: several\\nlines (test_logs.py:" in lines[1]


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
