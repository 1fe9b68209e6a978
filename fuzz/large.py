"""Random large JSON calls against what passes over them on the loop, and random numbers.

Invariant: the outline of a call is what ``json`` reads with each argument as null, or a UsageError
where that reads nothing, in whatever pieces the call is looked through; a natural number has the
value of its text; time is linear in the bytes.

    python -m fuzz.large --seconds 600 --seed 1
"""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from typing import Any

from tests.calibration import too_many_pieces

from dragoman.errors import UsageError
from dragoman.wire.json.doubles import natural_number
from dragoman.wire.json.outline import Outline
from fuzz.running import main

# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 25
ITEMS_MAX = 255
BESIDE_MAX = 65536
TEXTS = ("", "a", '"', "\\", '\\"', "[{", "}]", ",", "\n", "ü", '"args":[')


def value(source: random.Random, depth: int) -> Any:
    """A value of JSON."""
    kind = source.randrange(8 if depth else 5)
    if kind < 2:
        return "".join(source.choices(TEXTS, k=source.randrange(40)))
    if kind < 5:
        return source.choice((None, True, 0, -1.5, 10**20))
    if kind < 7:
        return [value(source, depth - 1) for _ in range(source.randrange(6))]
    return {str(i): value(source, depth - 1) for i in range(source.randrange(6))}


def outline(text: bytes, piece: int) -> tuple[bytes, int]:
    """The outline of a call that is looked through in pieces of so many bytes."""
    made = Outline(text, b"args", ITEMS_MAX, BESIDE_MAX)
    while not made.look(piece):
        pass
    return made.take()


def outcome(text: bytes, piece: int) -> object:
    """``outline``, or why there is none."""
    try:
        return outline(text, piece)
    except UsageError as error:
        return str(error)


def check_outline(source: random.Random) -> None:
    """One call, whole and changed."""
    call = {"types": ["a"], "args": [value(source, 4) for _ in range(source.randrange(5))], "z": 1}
    text = json.dumps(call, ensure_ascii=False, indent=source.choice((None, 1))).encode()
    piece = source.choice((1, 7, 100, len(text)))
    made, end = outline(text, piece)
    assert json.loads(made) == {**call, "args": [None] * len(call["args"])}
    assert text[end:] == b"}"
    changed = bytearray(text)
    changed[source.randrange(len(changed))] = source.choice(b'[]{}",:\\x ')
    assert outcome(bytes(changed), piece) == outcome(bytes(changed), len(text))


def check_number(source: random.Random) -> None:
    """One number's text."""
    digits = "".join(source.choices("0123456789", k=source.randint(1, 25)))
    text = f"{source.choice(('', '-'))}{source.randrange(100)}.{digits}"
    text += source.choice(("", "", f"e{source.randint(-400, 400)}"))
    made = natural_number(text)
    assert Decimal(repr(made) if isinstance(made, float) else made) == Decimal(text), text


def check(source: random.Random) -> None:
    """One call and some numbers."""
    start = time.thread_time()
    check_outline(source)
    for _ in range(10):
        check_number(source)
    assert not too_many_pieces(time.thread_time() - start, PIECES_MAX), "too slow"


if __name__ == "__main__":
    main(lambda seed: check(random.Random(seed)), __doc__)
