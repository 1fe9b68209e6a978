"""Large calls are looked through in pieces, whatever they are made of."""

from __future__ import annotations

import json

import pytest

from dragoman.errors import UsageError
from dragoman.wire.json.outline import Outline

PIECE = 4096
SPACE = " \n\r\t" * 50_000


@pytest.mark.parametrize("at", range(15))
def test_white_space_between_any_tokens_is_passed_over_in_pieces(at: int) -> None:
    tokens = ["", "{", '"types"', ":", '["a"]', ",", '"args"', ":", "[", "1", ",", '"a b"', "]"]
    tokens += ["}", ""]
    text = "".join(tokens[:at]) + SPACE + "".join(tokens[at:])
    made = Outline(text.encode(), b"args", 255, 65536)
    looks = 1
    while not made.look(PIECE):
        looks += 1
    assert looks >= len(SPACE) // PIECE
    said, end = made.take()
    assert json.loads(said) == {"types": ["a"], "args": [None, None]}
    assert text[end:].strip() == "}" and len(said) < 100


@pytest.mark.parametrize(
    "text", ["", " ", "{", "{}{", "{,}", '{"a"}', '{"a":1,}', '{"args":[1,]}', '{"args":[,1]}']
)
@pytest.mark.parametrize("piece", [1, 3, 4096])
def test_what_is_no_object_is_refused_in_pieces_too(text: str, piece: int) -> None:
    made = Outline(text.encode(), b"args", 255, 65536)
    with pytest.raises(UsageError):
        while not made.look(piece):
            pass


def test_an_outline_is_taken_once() -> None:
    made = Outline(b"{}", b"args", 255, 65536)
    assert made.look(1) or made.look(1)
    assert made.take() == (b"{}", 1)
    with pytest.raises(UsageError):
        made.take()
