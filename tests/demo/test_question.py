"""The demo's question and answer: the form, the random string and its Java hash."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.demo.question import INTERFACE, METHOD, PARAMETER_TYPES, answers, draw, hash_code
from dragoman.wire.http1.form import known_fields

NAMES = (b"interface", b"method", b"parameterTypesString", b"parameter")
ALPHABET = set((string.ascii_letters + string.digits).encode())


def java_hash(text: bytes) -> int:
    h = 0
    for byte in text:
        h = (31 * h + byte) & 0xFFFFFFFF
    return h - (1 << 32) if h >= 1 << 31 else h


@given(st.binary(max_size=100))
def test_the_hash_is_javas(text: bytes) -> None:
    assert hash_code(text) == java_hash(text)


def test_known_hashes() -> None:
    assert hash_code(b"") == 0
    assert hash_code(b"hello") == 99162322
    assert hash_code(b"polygenelubricants") == -2147483648


def test_the_form_is_the_contests_and_strings_are_random_alphanumerics_of_0_to_1023() -> None:
    lengths = []
    parameters = set()
    for seed in range(1, 3000):
        data, expected = draw(seed * 7919, head=b"H")
        head, _, body = data.partition(b"\r\n\r\n")
        assert head == b"Hcontent-length: %d" % len(body)
        interface, method, types, parameter = known_fields(body, NAMES)
        assert (interface, method) == (INTERFACE.encode(), METHOD.encode())
        assert types == PARAMETER_TYPES.encode()
        assert parameter is not None
        assert expected == java_hash(parameter)
        assert set(parameter) <= ALPHABET
        lengths.append(len(parameter))
        parameters.add(parameter)
    assert min(lengths) < 10
    assert 1013 < max(lengths) <= 1023
    assert 480 < sum(lengths) / len(lengths) < 545
    assert len(parameters) > 2900


@pytest.mark.parametrize("number", [0, 1, -1, 2147483647, -2147483648, 99162322])
def test_an_answer_is_the_number_and_nothing_else(number: int) -> None:
    text = b"%d" % number
    assert answers(text, number)
    assert answers(b" \r\n" + text + b"\n", number)
    for other in (b"", b"-", text + b"0", b"+" + text, text[:-1], b"0" + text, b"x" + text):
        assert not answers(other, number)
    assert not answers(b"%d" % (number ^ 1), number)
