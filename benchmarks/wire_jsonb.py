"""What fastjson2's binary form costs, for ``benchmarks.wire``: hessian2's values once more.

"a reply as JSON" is what an agent does with a reply: by way of hessian2. PyPI has no peer.
"""

from __future__ import annotations

import json

from benchmarks.wire_hessian2 import VALUES, Run, repeat
from dragoman.wire.dubbo.fastjson2 import encode_reply, reply_as_hessian2
from dragoman.wire.hessian2 import Hessian2Scanner
from dragoman.wire.jsonb.reader import decode
from dragoman.wire.jsonb.writer import encode


def reply_as_json(body: bytes) -> bytes:
    """The value of a reply as a caller over HTTP gets it."""
    scanner = Hessian2Scanner(reply_as_hessian2(body))
    scanner.skip_value()
    return scanner.read_json()


def runs(rounds: int) -> list[Run]:
    """Name, what to run, the bytes, how often. Results are compared before anything is measured."""
    result: list[Run] = []
    for name, value in VALUES.items():
        data = encode(value)
        reply = encode_reply(1, value, None)
        assert decode(data) == value
        assert json.loads(reply_as_json(reply)) == value
        few = max(1, rounds // max(1, len(data) // 4))
        result += [
            (f"decode {name}", repeat(lambda data=data: decode(data)), data, few),  # type: ignore[misc]
            (f"encode {name}", repeat(lambda value=value: encode(value)), data, few),  # type: ignore[misc]
            (
                f"a reply as JSON: {name}",
                repeat(lambda reply=reply: reply_as_json(reply)),  # type: ignore[misc]
                reply,
                max(1, few // 4),
            ),
        ]
    return result
