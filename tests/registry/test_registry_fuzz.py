"""A few inputs of ``fuzz.registry``; `make verify` runs it for minutes."""

from __future__ import annotations

import logging

import pytest
from fuzz.registry import once
from fuzz.running import attack

from dragoman.errors import ProtocolError
from dragoman.registry.registration import decode_entry


@pytest.mark.parametrize("seed", [1, 1000])
def test_whatever_is_listed_the_directory_knows_just_that(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    assert attack(once, seed=seed, inputs=5) == (seed + 5, 5)


@pytest.mark.parametrize(
    "key", ["/p/a.B/h\n2026 error forged:1", "/p/a.B/\x1b[31mh:1", "/p/" + "n" * 90_000]
)
def test_what_is_wrong_with_an_entry_is_one_short_line(key: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        decode_entry("/p", key, b"{}")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 2000
