"""What providers publish of the fields of their beans, in the words of Dubbo 2.7 and 3.3."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dragoman.errors import ProtocolError
from dragoman.registry.dubbo_metadata import decode_methods
from dragoman.registry.methods import fields_of

TYPES = {
    "a.Order": {
        "id": "long", "customer": "java.lang.String", "created": "java.util.Date",
        "lines": "java.util.List<a.Line>", "self": "a.Order", "color": "a.Color",
    },
    "a.Line": {"count": "int", "raw": "byte[]", "names": "java.lang.String[]"},
    "a.Plain": {"name": "java.lang.String", "next": "a.Plain"},
    "a.Far": {"days": "java.util.Map<java.lang.String, java.time.LocalDate>"},
    "java.util.UUID": {"leastSigBits": "long", "mostSigBits": "long"},
    "java.time.LocalDate": {"year": "int", "month": "short", "day": "short"},
}  # fmt: skip
METHODS = [
    {"name": "take", "parameterTypes": ["java.util.Map<java.lang.String,a.Order[]>"]},
    {"name": "plain", "parameterTypes": ["a.Plain", "int"], "returnType": "a.Order"},
]


def published(release: str) -> bytes:
    def told(text: str) -> Any:
        # 2.7 has an object where 3.3 has a text.
        return {"type": text, "typeBuilderName": "x"} if release == "2.7" else text

    types = [
        {"type": name, "properties": {field: told(text) for field, text in fields.items()}}
        for name, fields in TYPES.items()
    ]
    types += [{"type": "int"}, {"type": "java.util.List<a.Line>", "items": ["a.Line"]}]
    return json.dumps({"canonicalName": "a.B", "methods": METHODS, "types": types}).encode()


@pytest.mark.parametrize("release", ["2.7", "3.3"])
def test_those_fields_are_told_that_only_their_types_explain(release: str) -> None:
    take, plain = decode_methods(published(release), "a.B")
    assert take.fields == {
        "a.Order": {
            "created": "java.util.Date", "lines": "java.util.List<a.Line>", "self": "a.Order",
        },
        "a.Line": {"raw": "byte[]"},
    }  # fmt: skip
    assert plain.fields == {}
    assert fields_of((take, plain), "take") == take.fields
    assert fields_of((take, plain), "other") == {}


def test_what_is_published_of_types_is_bounded() -> None:
    for types in (
        [{"type": "a.B", "properties": {"x": 1}}],
        [{"type": "a.B"}] * 20_001,
        [{"type": "a.B", "properties": {f"f{i}": "int" for i in range(2_001)}}],
    ):
        with pytest.raises(ProtocolError, match=r"metadata of a\.B"):
            decode_methods(json.dumps({"methods": METHODS, "types": types}).encode(), "a.B")
