"""What hessian2 costs, for ``benchmarks.wire``: the same values with ``python-hessian`` beside.

``python-hessian`` reads Hessian 2 but writes Hessian 1 only: it is measured writing that, which is
the simpler form. Without it the comparison is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dragoman.wire.hessian2 import Hessian2Scanner, decode, encode, to_json
from dragoman.wire.java import Bean

try:
    from pyhessian.data_types import long
    from pyhessian.encoder import encode_object
    from pyhessian.parser import Parser
    from pyhessian.protocol import cls_factory
except ImportError:
    encode_object = None


def order() -> Bean:
    """A bean as services send them: 12 beans, 3 classes."""
    lines = [
        Bean("com.example.Line", article=f"article {i}", count=i, price=9.5 + i) for i in range(10)
    ]
    customer = Bean("com.example.Customer", name="Ann Example", city="上海", age=40, vip=True)
    return Bean(
        "com.example.Order", id=2**40, customer=customer, lines=lines, note=None, total=140.25
    )


VALUES: dict[str, Any] = {
    "a short string": "hello",
    "an order of 12 beans": order(),
    "1,000 ints": list(range(-500, 500)),
    "1,000 doubles": [i * 0.37 for i in range(1000)],
    "a map of 100 strings": {f"key {i}": f"the value of {i}" for i in range(100)},
    "1,000 characters, ASCII": "abcdefghij" * 100,
    "1,000 characters, Chinese": "你好，世界。" * 166 + "你好世界",
}


def theirs(value: Any) -> Any:
    """The value as ``python-hessian`` has it."""
    if isinstance(value, Bean):
        made = cls_factory(value.java_class)()
        for name, each in value.items():
            setattr(made, name, theirs(each))
        return made
    if isinstance(value, list):
        return [theirs(each) for each in value]
    if type(value) is int and value.bit_length() > 31:
        return long(value)
    return value


def plain(value: Any) -> Any:
    """Both libraries' values in one form, to be compared."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if hasattr(value, "_hessian_field_names"):
        return {name: plain(each) for name, each in value.__getstate__().items()}
    return value


def repeat(once: Callable[[], object]) -> Callable[[bytes, int], int]:
    """``once`` as ``benchmarks.wire`` wants it."""

    def run(_: bytes, rounds: int) -> int:
        for _ in range(rounds):
            once()
        return rounds

    return run


def their_decode(data: bytes) -> Any:
    """What ``python-hessian`` reads."""
    return Parser().parse_string(b"H\x02\x00R" + data).value


def scan(data: bytes) -> None:
    """Pass over a value."""
    Hessian2Scanner(data).skip_value()


Run = tuple[str, Callable[[bytes, int], int], bytes, int]


def runs(rounds: int) -> list[Run]:
    """Name, what to run, the bytes, how often. Results are compared before anything is measured."""
    result: list[Run] = []
    for name, value in VALUES.items():
        data = encode(value)
        assert decode(data) == value
        assert json.loads(to_json(data)) == value
        few = max(1, rounds // max(1, len(data) // 4))

        def row(
            what: str,
            once: Callable[[], object],
            count: int,
            name: str = name,
            data: bytes = data,
        ) -> None:
            result.append((f"{what} {name}", repeat(once), data, count))

        row("decode", lambda data=data: decode(data), few)  # type: ignore[misc]
        row("encode", lambda value=value: encode(value), few)  # type: ignore[misc]
        row("to JSON", lambda data=data: to_json(data), few)  # type: ignore[misc]
        row("skip", lambda data=data: scan(data), few)  # type: ignore[misc]
        if encode_object is not None:
            other = theirs(value)
            assert plain(their_decode(data)) == plain(value)
            less = max(1, few // 40)
            row("python-hessian decode", lambda data=data: their_decode(data), less)  # type: ignore[misc]
            row("python-hessian encode", lambda other=other: encode_object(other), less)  # type: ignore[misc]
    return result
