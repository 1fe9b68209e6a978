"""What does not fit is told in our words, whatever release of a library found it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest

from dragoman.wire import misfit as module
from dragoman.wire.misfit import json_misfit, misfit, msgpack_misfit, toml_misfit, unsendable


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, rename="camel"):
    unit_price: Annotated[float, msgspec.Meta(gt=0)]
    tags: Annotated[list[str], msgspec.Meta(max_length=2)] = []


@dataclass
class Plain:
    name: str
    count: int = 0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    plain: Plain | None = None
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    sizes: dict[str, int] = {}
    both: tuple[int, str] = (1, "")
    level: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None
    raw: msgspec.Raw = msgspec.Raw(b"null")


GOOD = '"inner":{"unitPrice":1}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected object, got array"),
        ("{}", "object missing required field inner"),
        ('{"inner":{}}', "object missing required field unitPrice in field inner"),
        ('{"inner":{"unitPrice":0}}', "expected float > 0 in field inner.unitPrice"),
        ('{"inner":{"unitPrice":"1"}}', "expected float, got str in field inner.unitPrice"),
        (
            '{"inner":{"unitPrice":1,"tags":["a","b","c"]}}',
            "expected array of at most 2 members in field inner.tags",
        ),
        (
            '{"inner":{"unitPrice":1,"tags":["a",2]}}',
            "expected str, got int in field inner.tags[1]",
        ),
        (f'{{{GOOD},"plain":{{}}}}', "object missing required field name in field plain"),
        (f'{{{GOOD},"plain":7}}', "expected object, got int in field plain"),
        (f'{{{GOOD},"colour":"pink"}}', "expected one of red, blue in field colour"),
        (f'{{{GOOD},"mode":"c"}}', "expected one of a, b in field mode"),
        (f'{{{GOOD},"sizes":{{"k":"x"}}}}', "expected int, got str in field sizes[...]"),
        (f'{{{GOOD},"both":[1,2]}}', "expected str, got int in field both[1]"),
        (f'{{{GOOD},"both":[1]}}', "expected array in field both"),
        (f'{{{GOOD},"level":10}}', "expected int from 1 to 9 in field level"),
        (f'{{{GOOD},"level":"10"}}', "expected int, got str in field level"),
        (f'{{{GOOD},"levle":1}}', "object contains unknown field levle"),
        (f"{{{GOOD}", "not one well-formed JSON value from byte 24 on"),
        ('{"a":"\udcff"}', "expected UTF-8, which ends at byte 6"),
        ("[" * 5000 + "]" * 5000, "JSON is nested too deep"),
        ("", "not one well-formed JSON value from byte 0 on"),
    ],
)
def test_json_that_does_not_fit_is_told_with_the_place(text: str, message: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    with pytest.raises(module.UNREADABLE):
        msgspec.json.decode(data, type=Outer)
    assert str(json_misfit(data, Outer)) == message


def test_no_message_holds_a_value() -> None:
    for value in ("geheim", 4711, ["geheim"], {"geheim": 1}):
        for kind in (Outer, list[int], Colour, Literal["a"], dict[str, str], Inner | int):
            text = str(misfit(value, kind))
            assert "geheim" not in text or "unknown field" in text
            assert "4711" not in text


def test_a_large_text_is_not_made_objects_of_and_its_member_is_named_all_the_same() -> None:
    data = b'{"inner":{"unitPrice":1},"sizes":{%s},"raw":[%s]}' % (
        b",".join(b'"%d":1' % i for i in range(20_000)),
        b",".join([b"{}"] * 50_000),
    )
    assert len(data) > module.LOOKED_AT_BYTES_MAX
    msgspec.json.decode(data, type=Outer)
    assert str(json_misfit(data[:-1] + b',"mode":5}', Outer)) == (
        "expected one of a, b in field mode"
    )
    wrong = data.replace(b'"777":1,', b'"777":"x",')
    assert str(json_misfit(wrong, Outer)) == "expected object in field sizes"


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (b"\x91\xa1x", list[int], "expected int, got str in field [0]"),
        (b"\x81\x01\x02", dict[str, int], "expected str, got int in field [key]"),
        (b"\xc4\x01x", str, "expected str, got bytes"),
        (b"\x91", list[int], "expected one whole value of MessagePack"),
        (b"\x01\x02", int, "expected one whole value of MessagePack"),
        (b"\xc4\x05" + b"x" * 5, Annotated[bytes, msgspec.Meta(max_length=4)], "at most 4 bytes"),
    ],
)
def test_messagepack_that_does_not_fit_is_told(value: bytes, kind: Any, message: str) -> None:
    assert message in str(msgpack_misfit(value, kind))


def test_what_cannot_be_sent_is_told_by_its_type() -> None:
    assert unsendable([1, {"a": object()}]) == "a value of type object"
    assert unsendable((1 << 80,)) == "an int of more than 64 bits"
    endless: list[object] = []
    endless.append(endless)
    assert unsendable(endless) == "nested too deep"


def test_the_words_are_not_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release may say whatever it likes."""

    def refuse(*args: object, **options: object) -> None:
        raise msgspec.ValidationError("Ceci n'est pas un entier - at `$.weight`")

    monkeypatch.setattr(msgspec, "convert", refuse)
    assert str(misfit({"unitPrice": "x"}, Inner)).startswith("expected float, got str in field")
    assert toml_misfit(ValueError("Wrong (at line 3, column 4)")) == (
        "not TOML from line 3, column 4 on"
    )
    assert toml_misfit(ValueError("all other words")) == "not TOML: its end is missing"
