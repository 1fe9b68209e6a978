"""Strings in chunks, as JSON and from UTF-8: what is copied in runs is what was read one by one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.hessian2 import Hessian2Scanner, encode, encode_string, to_json
from dragoman.wire.json.string import decode_string
from dragoman.wire.json.string import encode_string as json_string
from dragoman.wire.json.text import check_value

# Of one to three bytes, what is escaped, first and last characters of their length, pairs, halves.
ALPHABET = (
    'abcé¢\x80\u07ff\u0800\u0fff中文字\ud7ff\uffff"\\\n\x00\x1f\U0001f600\U00010000\ud83d\ude00'
)
TEXTS = st.text(ALPHABET, max_size=60) | st.text("中文", max_size=80) | st.text("éñ", max_size=80)
# A chunk ends with any number of characters of each length.
LENGTHS = [0, 1, 2, 5, 15, 16, 17, 31, 32, 33, 79, 80]


def units_of(text: str) -> list[bytes]:
    """A text as Java's writers do it: each UTF-16 unit by itself."""
    both = text.encode("utf-16-be", "surrogatepass")
    return [
        chr(both[i] << 8 | both[i + 1]).encode("utf-8", "surrogatepass")
        for i in range(0, len(both), 2)
    ]


def in_chunks(units: list[bytes], *cuts: int) -> bytes:
    """The string with a chunk that ends at each of ``cuts``."""
    data, start = b"", 0
    for cut in (*cuts, len(units)):
        tag = b"S" if cut == len(units) else b"R"
        data += tag + (cut - start).to_bytes(2) + b"".join(units[start:cut])
        start = cut
    return data


def as_json(text: str) -> bytes:
    """The JSON of a string in chunks: escaped is what must be, and halves of pairs."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    said = ""
    for each in whole:
        if each in '"\\':
            said += "\\" + each
        elif each < " " or "\ud800" <= each <= "\udfff":
            said += f"\\u{ord(each):04x}"
        else:
            said += each
    return f'"{said}"'.encode()


@given(TEXTS, st.data())
def test_a_string_in_chunks_is_the_json_of_its_characters(text: str, data: st.DataObject) -> None:
    units = units_of(text + "a")
    cut = data.draw(st.integers(0, len(units) - 1))
    said = in_chunks(units, cut)
    assert to_json(said) == as_json(text + "a")
    # What follows is read from where it ends.
    scanner = Hessian2Scanner(said + b"T")
    assert scanner.read_json() == as_json(text + "a")
    assert scanner.read_json() == b"true"


@pytest.mark.parametrize("character", ["a", "é", "中", "\U0001f600", '"', "\n", "\ud83d"])
@pytest.mark.parametrize("before", LENGTHS)
def test_a_chunk_may_end_anywhere(character: str, before: int) -> None:
    for after in LENGTHS:
        text = "x" * 3 + character * before + "z" + "文" * after
        units = units_of(text)
        for cut in (0, 3, min(len(units) - 1, 3 + before), len(units) - 1):
            assert to_json(in_chunks(units, cut)) == as_json(text)


def test_half_a_string_is_refused_wherever_it_is_cut() -> None:
    said = in_chunks(units_of("abc中文字中文字é" * 4 + '"\U0001f600'), 20, 33)
    for end in range(len(said)):
        with pytest.raises(ProtocolError):
            to_json(said[:end])


@pytest.mark.parametrize("bad", [b"\xff", b"\x80", b"\xe0\x80\x80", b"\xe4\xb8", b"\xed\xa0\x80"])
@pytest.mark.parametrize("before", LENGTHS)
def test_what_is_no_utf8_is_refused_wherever_it_is(bad: bytes, before: int) -> None:
    for piece in ("a", "é", "中", "\U0001f600"):
        for after in (0, 1, 16, 40):
            raw = (piece * before).encode() + bad + (piece * after).encode()
            for refuses in (encode_string, json_string):
                with pytest.raises(UsageError):
                    refuses(raw)
            for refuses in (decode_string, check_value):
                with pytest.raises(UsageError):
                    refuses(b'"' + raw + b'"')


@given(TEXTS.map(lambda text: text.encode("utf-8", "ignore")))
def test_utf8_of_any_length_passes_as_it_is(raw: bytes) -> None:
    said = json_string(raw)
    assert json.loads(said) == raw.decode()
    assert check_value(said) == said
    assert decode_string(said) == raw
    assert encode_string(raw) == encode(raw.decode())


@pytest.mark.parametrize("piece", ["a", "é", "中", "a中", "\U0001f600", "a\U0001f600"])
@pytest.mark.parametrize("extra", ["", "b", "文", "\U0001f680"])
def test_a_long_text_is_cut_as_java_cuts_it(piece: str, extra: str) -> None:
    for units in (32767, 32768, 32769, 65536):
        text = piece * (units // len(units_of(piece))) + extra
        data = encode_string(text.encode())
        assert data == encode(text)
        assert json.loads(to_json(data)) == text
    assert encode_string(b"x" + text.encode()) == encode("x" + text)
