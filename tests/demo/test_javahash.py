"""Java's hashCode against a plain model."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.demo.javahash import java_hash, java_hash_of_json


def model(text: str) -> int:
    units = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for i in range(0, len(units), 2):
        value = (31 * value + int.from_bytes(units[i : i + 2], "big")) & 0xFFFFFFFF
    return value - 2**32 if value >= 2**31 else value


@pytest.mark.parametrize(
    ("text", "value"),
    # The values are what Java prints.
    [("", 0), ("a", 97), ("Hello, World!", 1498789909), ("polygenelubricants", -(2**31))],
)
def test_known_values(text: str, value: int) -> None:
    assert java_hash(text) == value
    assert model(text) == value


@given(st.text(st.characters(), max_size=60))
def test_every_text_hashes_as_in_java(text: str) -> None:
    assert java_hash(text) == model(text)
    assert java_hash_of_json(json.dumps(text).encode()) == model(text)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_raw_characters_hash_as_their_escapes(text: str) -> None:
    assert java_hash_of_json(json.dumps(text, ensure_ascii=False).encode()) == model(text)


@pytest.mark.parametrize("length", [*range(1, 20), 1023, 4096])
def test_every_length_hashes_as_in_java(length: int) -> None:
    text = "".join(chr(33 + (i * 7) % 90) for i in range(length))
    assert java_hash(text) == model(text)
