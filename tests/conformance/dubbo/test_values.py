"""Single values as Dubbo wrote them (``interop.dubbo_values``), at HTTP and in the SDK."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.dubbo.upstream.decode_reply import Replies
from dragoman.errors import Code, LimitError
from dragoman.wire.dubbo.invocation import FASTJSON, FASTJSON2, HESSIAN2, decode_reply
from dragoman.wire.java import Bean

VALUES: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "values.json").read_text("utf-8")
)
SERIALIZATIONS = {"hessian2": HESSIAN2, "fastjson": FASTJSON, "fastjson2": FASTJSON2}


def reply(name: str, by: str) -> tuple[bytes, int]:
    """The body of a reply with a value, and its serialization."""
    data = bytes.fromhex(VALUES[name][by])
    serialization = SERIALIZATIONS[by.split()[1]]
    head = {HESSIAN2: b"\x91", FASTJSON: b"1\n", FASTJSON2: b"\0\0\0\1\1"}[serialization]
    return head + data, serialization


def at_http(name: str, by: str) -> Any:
    """The JSON that a caller is given."""
    body, serialization = reply(name, by)
    code, answer = Replies().give(serialization, body, answer="json")
    assert code == 0, answer
    return json.loads(answer)


def in_sdk(name: str, by: str) -> Any:
    body, serialization = reply(name, by)
    return decode_reply(body, serialization).value


def is_refused(name: str, by: str) -> str:
    """Why a caller is told that there is no value; one of the SDK is told the same."""
    body, serialization = reply(name, by)
    code, why = Replies().give(serialization, body, answer="json")
    assert code == Code.BAD_RESULT
    with pytest.raises(LimitError) as caught:
        decode_reply(body, serialization)
    assert str(caught.value) in why
    assert isinstance(why, str)
    return why


# ---- beans and enums


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bean of a name", {"name": "bob"}),
        ("bean of a name in capitals", {"name": "BOB"}),
        ("bean with a name and zeros", {"name": "bob"}),
        ("bean with a name in capitals and zeros", {"name": "BOB"}),
        ("enum", "RED"),
        ("enum with a body", "BLUE"),
        ("beans beside enums", [{"name": "RED"}, "RED", {"name": "bob"}, "BLUE"]),
        ("EnumSet", ["RED", "BLUE"]),
        ("empty EnumSet", []),
        ("EnumMap", {"RED": 1}),
    ],
)
def test_in_fastjson2_a_bean_of_which_only_its_name_came_is_no_enum(name: str, said: Any) -> None:
    assert at_http(name, "3.3 fastjson2") == said


def test_a_bean_from_fastjson2_goes_back_as_one() -> None:
    from dragoman.wire.jsonb.reader import decode
    from dragoman.wire.jsonb.writer import encode

    for name in ("bean of a name in capitals", "enum", "enum with a body", "beans beside enums"):
        data = bytes.fromhex(VALUES[name]["3.3 fastjson2"])[4:]
        assert decode(encode(decode(data))) == decode(data)
        assert encode(decode(data)) == data


# ---- keys


@pytest.mark.parametrize("by", ["2.6 hessian2", "2.7 fastjson", "3.3 hessian2", "3.3 fastjson2"])
def test_keys_that_are_objects_and_lists_are_their_json_as_text(by: str) -> None:
    beans = {
        json.dumps(json.loads(key), sort_keys=True) if key[0] == "{" else key: value
        for key, value in at_http("beans as keys", by).items()
    }
    if by in ("2.7 fastjson", "3.3 fastjson2"):
        assert beans == {'{"age": 1, "name": "bob"}': 1, '{"name": "X"}': 2}
    else:
        # hessian2 does not tell a bean whose one field is `name` from an enum's constant.
        assert beans == {'{"age": 1, "color": null, "name": "bob"}': 1, "X": 2}
    assert at_http("maps as keys", by) == {'{"a":1}': "x", '{"b":[1,2]}': "y"}
    assert at_http("lists as keys", by) == {'[1,"a"]': "x", '[["q\\""]]': "y"}
    assert set(at_http("scalars as keys", by)) == {"2020-01-02", "1.50", "2.5", "5", "true"}


@pytest.mark.parametrize("by", ["2.7 hessian2", "3.3 fastjson2"])
def test_maps_and_lists_are_keys_in_python(by: str) -> None:
    assert list(in_sdk("maps as keys", by)) == [{"a": 1}, {"b": (1, 2)}]
    assert in_sdk("lists as keys", by) == {(1, "a"): "x", (('q"',),): "y"}
    found = in_sdk("beans as keys", by)
    assert found[Bean("Values$Named", name="X")] == 2


# ---- references

SHARED = [name for name in VALUES if name.startswith("shared behind the name ")]


def test_what_fastjson_refers_to_is_there_once_more() -> None:
    one = {"age": 1, "name": "one"}
    by = "2.7 fastjson"
    for read in (at_http, in_sdk):
        fields = read("shared by fields", by)
        assert fields["first"] == fields["second"] == one
        assert read("shared in a list", by) == [one, one, [one]]
        assert read("shared in an array", by) == [one, one, [one]]
        assert read("shared behind names with dots and spaces", by) == {
            "a.b": {"z": one},
            "x y": {"q": one, "it": [one]},
            "r": one,
        }
        for name in ("an Integer", "a Long", "null", "an enum", "a bean"):
            found = read(f"shared behind {name}", by)
            assert found.pop("o") == one
            assert list(found.values()) == [one]


@pytest.mark.parametrize("name", SHARED)
def test_names_with_odd_characters_lead_to_what_is_referred_to(name: str) -> None:
    key = name.removeprefix("shared behind the name ")
    one = {"age": 1, "name": "one"}
    assert at_http(name, "2.7 fastjson") == {key: one, "o": one}
    assert in_sdk(name, "2.7 fastjson") == {key: one, "o": one}


@pytest.mark.parametrize("name", ["cycle of one", "cycle of two", "cycle through a list"])
def test_a_cycle_in_fastjson_is_an_error_of_its_call(name: str) -> None:
    assert "a value that contains itself" in is_refused(name, "2.7 fastjson")


def test_a_path_by_a_name_that_java_writes_otherwise_leads_nowhere() -> None:
    # Its path has the date's toString, its key the milliseconds: Java does not find it either.
    assert "where there is nothing" in is_refused("shared behind a Date", "2.7 fastjson")


# ---- numbers and immutable collections


def test_a_float_is_the_number_that_its_text_says() -> None:
    by = "3.3 fastjson2"
    listed = [0.1, 3.4028235e38, 1.4e-45, 16777216.0, 1e10, 1.1754944e-38, 0.001, -9.5367e-7]
    for read in (at_http, in_sdk):
        assert read("float", by) == 0.1
        assert read("floats", by) == [*listed, 123456.79]
        assert read("float[]", by) == [0.1, 1.0]
        assert read("bean with a float", by)["small"] == 0.1


IMMUTABLE = [
    "List.of", "empty List.of", "Set.of", "Map.of", "List.of in a list", "array of List.of",
    "List.of in a bean",
]  # fmt: skip


@pytest.mark.parametrize("by", ["2.6 hessian2", "2.7 hessian2"])
@pytest.mark.parametrize("name", IMMUTABLE)
def test_immutable_collections_without_their_elements_are_refused(name: str, by: str) -> None:
    assert "List.of, Set.of, Map.of" in is_refused(name, by)


@pytest.mark.parametrize("by", ["2.7 fastjson", "3.3 hessian2", "3.3 fastjson2"])
def test_immutable_collections_with_their_elements_are_read(by: str) -> None:
    for read in (at_http, in_sdk):
        assert read("List.of", by) == [1, 2]
        assert read("empty List.of", by) == []
        assert read("Set.of", by) == [1]
        assert read("Map.of", by) == {"a": 1}
        assert read("List.of in a list", by) == [[1, 2], {"a": 1}]
        assert read("array of List.of", by) == [[1], [2]]
        holder = read("List.of in a bean", by)
        assert (holder["list"], holder["map"]) == (["a", 1], {"k": "v"})
