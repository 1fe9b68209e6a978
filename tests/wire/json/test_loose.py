"""fastjson's names that are no text and its references, made JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import LimitError, ProtocolError, UsageError
from dragoman.wire.dubbo.invocation import FASTJSON, decode_reply, decode_request
from dragoman.wire.json.loose import BYTES_MAX, CONTAINERS_MAX, strict
from dragoman.wire.json.text import DEPTH_MAX, check_value

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner)
)


@given(JSON)
def test_json_is_already_strict(value: object) -> None:
    text = json.dumps(value, indent=1).encode()
    assert strict(text) == text


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (b'{1:"1:2"}', b'{"1":"1:2"}'),
        (b'{ 1 : 2 , "3" : [ 4 ] }', b'{ "1" : 2 , "3" : [ 4 ] }'),
        (rb'{"a\":":1,true:{null:null}}', rb'{"a\":":1,"true":{"null":null}}'),
        (b"[{-1.5e3:[]},{false:1}]", b'[{"-1.5e3":[]},{"false":1}]'),
        (b"{{}:1}", b'{"{}":1}'),
        (b"{[]:[],[[]]:{}}", b'{"[]":[],"[[]]":{}}'),
        (b'{ {"a" : [1]} : 1 , 2:3 }', rb'{ "{\"a\" : [1]}" : 1 , "2":3 }'),
        (rb'{{"a\"":"\\"}:1}', rb'{"{\"a\\\"\":\"\\\\\"}":1}'),
        (rb"{{{1:2}:3}:4}", rb'{"{\"{\\\"1\\\":2}\":3}":4}'),
        ('[{{"é":"\U0001f600"}:1}]'.encode(), '[{"{\\"é\\":\\"\U0001f600\\"}":1}]'.encode()),
        (rb'{{"a":"\ud800"}:1}', rb'{"{\"a\":\"\\ud800\"}":1}'),
    ],
)
def test_names_that_are_not_text_become_text(text: bytes, made: bytes) -> None:
    assert strict(text) == made
    with pytest.raises(UsageError):
        check_value(text)
    json.loads(made)


KEYS = [b"{a:1}", b"{1 2:3}", b"{:1}", b"{{}}", b"{{}1}", b"{[:1}", b"{01:1}", b"[1:2]", b"1:2"]
KEYS += [b"{1}", b"{nul:1}", b"[{}:1]", b"{{},1}", b"{{}:}", b"{[1}:1}", b"{{1}:1}", b"{{}:1"]


@pytest.mark.parametrize("text", KEYS)
def test_names_that_are_nothing_are_refused(text: bytes) -> None:
    with pytest.raises(UsageError):
        strict(text)


@pytest.mark.parametrize("depth", [1, 127, 128])
def test_names_nest_no_deeper_than_values(depth: int) -> None:
    text = b"{" * depth + b"}:1" * (depth - 1) + b"}"
    if depth == 1:
        assert strict(text) == b"{}"
        return
    # Each level doubles the backslashes of the one in it.
    with pytest.raises(LimitError):
        strict(text)
    with pytest.raises(UsageError, match="nest"):
        strict(b"{" * 129 + b"}:1" * 128 + b"}")


# ---- references


def followed(text: str, **options: Any) -> Any:
    made = strict(text.encode(), **options)
    check_value(made)
    return json.loads(made)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('[{"a":1},{"$ref":"$[0]"}]', [{"a": 1}, {"a": 1}]),
        ('{"a":{"x":[1]},"b":{"$ref":"$.a.x"}}', {"a": {"x": [1]}, "b": [1]}),
        ('{"a":[[1],{"$ref":"$.a[0]"}]}', {"a": [[1], [1]]}),
        # Forward, and by way of what is a reference itself.
        ('[{"$ref":"$[1]"},{"x":{"$ref":"$[2]"}},{"y":0}]',
         [{"x": {"y": 0}}, {"x": {"y": 0}}, {"y": 0}]),
        ('[{"$ref":"$[1]"},{"$ref":"$[2]"},[]]', [[], [], []]),
        ('[{"a":[1]},{ "$ref" : "$[0].a" }]', [{"a": [1]}, [1]]),
        (r'{"a.b":{"z":[]},"c":{"$ref":"$.a\\.b.z"}}', {"a.b": {"z": []}, "c": []}),
        (r'{"[0]":[1],"c":{"$ref":"$.\\[0\\]"}}', {"[0]": [1], "c": [1]}),
        ('{"0":[1],"c":{"$ref":"$[0]"},"d":{"$ref":"$.0"}}', {"0": [1], "c": [1], "d": [1]}),
        ('{1:[1],"c":{"$ref":"$[1]"},"d":{"$ref":"$.1"}}', {"1": [1], "c": [1], "d": [1]}),
        ('{"":[1],"c":{"$ref":"$."}}', {"": [1], "c": [1]}),
        (r'{"\u0061":[1],"c":{"$ref":"$.a"}}', {"a": [1], "c": [1]}),
        ('{{"k":1}:[{"$ref":"$.null"}]}', {'{"k":1}': [{"k": 1}]}),
        ('{"a":[1],{"$ref":"$.a"}:2}', {"a": [1], "[1]": 2}),
        # Somebody's own values, which begin like no path.
        ('{"$ref":"#/definitions/x"}', {"$ref": "#/definitions/x"}),
        ('{"$ref":"","a":{"$ref":"$a"}}', {"$ref": "", "a": {"$ref": "$a"}}),
        ('{"$ref":1}', {"$ref": 1}),
        ('[{"$ref":"$","more":1}]', [{"$ref": "$", "more": 1}]),
        ('{"a":"{\\"$ref\\":\\"$\\"}"}', {"a": '{"$ref":"$"}'}),
    ],
)  # fmt: skip
def test_references_are_followed(text: str, made: Any) -> None:
    assert followed(text) == made
    reply = b"1\n" + text.encode() + b"\n"
    assert decode_reply(reply, FASTJSON).value == made


CYCLES = ['{"$ref":"$"}', '{"$ref":"@"}', '[{"$ref":"@"}]', '[{"$ref":"$"}]', '[[{"$ref":".."}]]']
CYCLES += ['{"a":{"$ref":"$.b"},"b":[{"$ref":"$.a"}]}', '[{"$ref":"$[1]"},{"$ref":"$[0]"}]']
CYCLES += ['{"a":{{"$ref":"$.a"}:1}}', '[{"x":[{"$ref":"$[0]"}]}]']


@pytest.mark.parametrize("text", CYCLES)
def test_what_contains_itself_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"contains itself|where there is nothing"):
        strict(text.encode())
    with pytest.raises(ProtocolError):
        decode_reply(b"1\n" + text.encode() + b"\n", FASTJSON)


@pytest.mark.parametrize(
    "path",
    ["$[1]", "$[9]", "$.a", "$..", "$[", "$.[0]", "$[0].a", "$[-1]", "$[0][0]", "$[99999999999]",
     "..", "$[0]x", "$[0].\\"],
)  # fmt: skip
def test_paths_to_nothing_are_refused_with_their_text(path: str) -> None:
    text = json.dumps([{"x": 1}, {"y": {"$ref": path}}])
    if path == "..":
        text = json.dumps({"$ref": path})
    with pytest.raises(ProtocolError, match=r"contains itself|a reference to .* where there is"):
        strict(text.encode())


def test_an_expansion_is_bounded_in_bytes_depth_and_work() -> None:
    # Each is the one before it twice.
    bomb = [[0]] + [[{"$ref": f"$[{i}]"}, {"$ref": f"$[{i}]"}] for i in range(100)]
    with pytest.raises(LimitError, match=f"more than {BYTES_MAX} bytes"):
        strict(json.dumps(bomb).encode())
    with pytest.raises(LimitError, match="more than 1000 bytes"):
        strict(json.dumps(bomb).encode(), bytes_max=1000)
    in_a_key = json.dumps(bomb)[:-1] + ',{{"$ref":"$[100]"}:1}]'
    with pytest.raises(LimitError):
        strict(in_a_key.encode())
    deep: list[Any] = [[0]] + [[{"$ref": f"$[{i}]"}] for i in range(DEPTH_MAX)]
    with pytest.raises(LimitError, match=f"deeper than {DEPTH_MAX}"):
        strict(json.dumps(deep).encode())
    assert len(followed(json.dumps(deep[: DEPTH_MAX - 1]))) == DEPTH_MAX - 1
    many = b"[" + b"[]," * CONTAINERS_MAX + b"[]" + b',{"$ref":"$[0]"}]'
    with pytest.raises(LimitError, match="lists and objects"):
        strict(many)


def test_many_references_into_one_list_are_each_one_look() -> None:
    # With a search for each of them this would take minutes.
    count = 50_000
    text = b"[" + b'{"a":1},' * count
    text += b",".join(b'{"$ref":"$[%d]"}' % i for i in range(count - 1, -1, -1)) + b"]"
    assert json.loads(strict(text)) == [{"a": 1}] * (2 * count)


def test_arguments_of_requests_are_values_of_their_own() -> None:
    lines = [
        '"2.0.2"', '"a.B"', "null", '"m"', '"Ljava/util/List;Ljava/lang/Object;"',
        '[{"a":1},{"$ref":"$[0]"}]', '{"x":{"$ref":"$.y"},"y":[1]}', '{"path":"a.B"}',
    ]  # fmt: skip
    body = "".join(f"{line}\n" for line in lines).encode()
    assert decode_request(body, FASTJSON).arguments == [
        [{"a": 1}, {"a": 1}],
        {"x": [1], "y": [1]},
    ]
    cyclic = body.replace(b'"$[0]"', b'"$"')
    with pytest.raises(ProtocolError, match="contains itself"):
        decode_request(cyclic, FASTJSON)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]:,"$ref.@0\\', max_size=40).map(str.encode))
def test_whatever_comes_is_json_or_refused(text: bytes) -> None:
    try:
        made = strict(text)
    except (ProtocolError, UsageError):
        return
    check_value(made)
