"""Random large legal calls against the bound of what may be transcoded on a loop.

Invariant: what ``dubbo.upstream.costs`` does not call costly is made a request, or read as a reply,
within a slice of a loop's time; the question itself takes a small part of that, whatever the body
holds.

    python -m fuzz.costs --seconds 600 --seed 1
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable
from typing import Any

from tests.calibration import too_many_pieces

from dragoman.dubbo.upstream.costs import reply_is_costly, request_is_costly
from dragoman.dubbo.upstream.decode_reply import Replies
from dragoman.dubbo.upstream.encode_request import METHODS, Requests
from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.dubbo import invocation
from fuzz.running import main

# A slice of 20 ms, and a part of it, in pieces of work (tests/calibration.py).
SLICE_PIECES = 5.0
QUESTION_PIECES = 1.0
NUMBERS = {"hessian2": 2, "fastjson": 6, "fastjson2": 23}
TARGET = b"a.B\0m\0\0\0"
# Around the bounds of bytes; those of values are met by short values.
LENGTHS = (9_000, 33_000, 130_000, 500_000, 1_040_000, 3_000_000)
ONES = (
    *("0", "-1.5", "0.12345678901234567", "1e300", "9007199254740993", "null", "{}", "[]"),
    *(
        '""',
        '"ab"',
        '"\\n\\u00fc"',
        '"2024-01-01T00:00:00Z"',
        "[[[[[[[[]]]]]]]]",
        '{"a":{"b":[1]}}',
    ),
    *('{"class":"a.C","x":1}', '"' + "\\\\" * 40 + '"', '"' + "\u00fc\U0001f600" * 30 + '"'),
)


def listed(source: random.Random, length: int) -> str:
    """A JSON value of about so many bytes: few kinds of values, or one, again and again."""
    ones = source.sample(ONES, source.choice((1, 1, 2, 5)))
    kind = source.randrange(4)
    if kind == 0:
        one = source.choice(('"', '"\\"', '"\\u1234', '"\u00fc', '"a'))
        return '"' + one[1:] * (length // max(1, len(one.encode()) - 1)) + '"' if one[1:] else '""'
    parts: list[str] = []
    have = 0
    while have < length:
        one = source.choice(ones)
        if kind == 1:
            one = f'"k{len(parts)}":{one}'
        elif kind == 2:
            one = f"[{one}]"
        parts.append(one)
        have += len(one) + 1
    return ("{%s}" if kind == 1 else "[%s]") % ",".join(parts)


def within(pieces: float, work: Callable[[], Any], *, refused: tuple[type[Exception], ...]) -> Any:
    """Do ``work``, which may take so many pieces; what interrupts it does not do so each time."""
    for left in (2, 1, 0):
        start_s = time.thread_time()
        made = None
        with contextlib.suppress(*refused):
            made = work()
        spent_s = time.thread_time() - start_s
        if not too_many_pieces(spent_s, pieces):
            return made
        assert left, f"{spent_s * 1000:.0f} ms"
    return None


def check(source: random.Random) -> None:
    """One call there, and its argument as a result back."""
    name = source.choice(sorted(NUMBERS))
    number = NUMBERS[name]
    text = listed(source, source.choice(LENGTHS))
    body = TARGET + b'{"args":[' + text.encode() + b"]}"
    method = METHODS[b"json"]
    if not within(QUESTION_PIECES, lambda: request_is_costly(number, method, body), refused=()):
        requests = Requests(name)
        within(SLICE_PIECES, lambda: requests.make_asked(method, body, 1000), refused=(UsageError,))
    _, asked = Requests(name).make_asked(method, TARGET + b'{"args":[]}', 1000)
    with contextlib.suppress(UsageError, ProtocolError):
        reply = invocation.encode_reply(json.loads(text), serialization=number)
        if not within(QUESTION_PIECES, lambda: reply_is_costly(asked, number, reply), refused=()):
            replies = Replies()
            within(
                SLICE_PIECES,
                lambda: replies.answer_to(asked, number, reply),
                refused=(UsageError,),
            )


if __name__ == "__main__":
    main(lambda seed: check(random.Random(seed)), __doc__)
