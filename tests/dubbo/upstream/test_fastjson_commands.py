"""Names that fastjson obeys reach no provider as members of what callers wrote."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from dragoman.dubbo.upstream.encode_request import Requests
from dragoman.errors import UsageError
from dragoman.wire.dubbo import fastjson, invocation
from dragoman.wire.hessian2 import encode

COMMANDS = ["@type", "$ref"]
SPELLED = ["@type", "$ref", "\\u0040type", "\\u0024ref", "@typ\\u0065", "$\\u0072ef"]
HEAD = b"a.B\0m\0\0\0"


def hessian2_call(argument: Any, attachments: dict[str, str]) -> bytes:
    """A call by the mesh method ``hessian2``, as the SDK makes it."""
    body = encode(argument)
    names = HEAD + b"Ljava/util/Map;\0"
    return names + struct.pack(">I", len(body)) + body + encode(attachments)


@pytest.mark.parametrize("serialization", ["fastjson", "fastjson-lengths"])
@pytest.mark.parametrize("name", SPELLED)
def test_an_attachment_so_named_is_refused(serialization: str, name: str) -> None:
    body = HEAD + b'{"args":[],"attachments":{"a":"b","%s":"x.Y"}}' % name.encode()
    plain = json.loads(f'"{name}"')
    with pytest.raises(UsageError, match=r"attachments: .* is not passed on") as refused:
        Requests(serialization).make(b"json", 1, body)
    assert plain in str(refused.value)
    for method in (b"hessian2", b"hessian2-oneway"):
        with pytest.raises(UsageError, match="attachments"):
            Requests(serialization).make(method, 1, hessian2_call({}, {plain: "x.Y"}))


@pytest.mark.parametrize("serialization", ["fastjson", "fastjson-lengths"])
@pytest.mark.parametrize("name", SPELLED)
@pytest.mark.parametrize("generic", ["", ',"generic":true'])
def test_a_member_of_an_argument_so_named_is_refused(
    serialization: str, name: str, generic: str
) -> None:
    deep = f'[1,{{"a":{{"{name}":"$"}}}}]'
    with pytest.raises(UsageError, match=r"args\[0\]: .* is not passed on"):
        Requests(serialization).make(b"json", 1, HEAD + f'{{"args":[{deep}]{generic}}}'.encode())
    with pytest.raises(UsageError, match="is not passed on"):
        Requests(serialization).make(
            b"hessian2", 1, hessian2_call({"a": [{json.loads(f'"{name}"'): "$"}]}, {})
        )
    with pytest.raises(UsageError, match="is not passed on"):
        form = f"interface=a.B&method=m&parameterTypesString=Ljava/util/List;&parameter={deep}"
        Requests(serialization).make(b"form", 1, form.encode())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_text_that_reads_so_and_names_that_nearly_do_pass(name: str) -> None:
    body = {"args": [{"a": name, f"{name}s": 1}], "attachments": {"a": name, f" {name}": "b"}}
    frame = Requests("fastjson").make(b"json", 1, HEAD + json.dumps(body).encode())
    said = fastjson.decode_request(frame[16:])
    assert json.loads(said.arguments[0]) == {"a": name, f"{name}s": 1}
    assert json.loads(said.attachments)["a"] == name


@pytest.mark.parametrize("serialization", ["hessian2", "fastjson2"])
@pytest.mark.parametrize("name", COMMANDS)
def test_where_no_fastjson_text_is_written_such_attachments_pass(
    serialization: str, name: str
) -> None:
    number = {"hessian2": 2, "fastjson2": 23}[serialization]
    body = HEAD + b'{"args":[],"attachments":{"%s":"x"}}' % name.encode()
    for frame in (
        Requests(serialization).make(b"json", 1, body),
        Requests(serialization).make(b"hessian2", 1, hessian2_call({}, {name: "x"})),
    ):
        assert invocation.decode_request(frame[16:], number).attachments[name] == "x"


def test_a_reference_in_an_argument_is_plain_data_to_who_speaks_hessian2() -> None:
    body = HEAD + b'{"args":[{"$ref":"#/a"}]}'
    frame = Requests("hessian2").make(b"json", 1, body)
    assert invocation.decode_request(frame[16:], 2).arguments == [{"$ref": "#/a"}]


@pytest.mark.parametrize("name", COMMANDS)
def test_bodies_of_values_are_refused_likewise(name: str) -> None:
    with pytest.raises(UsageError, match=r"@type|\$ref"):
        invocation.encode_request("a.B", "m", "", [], serialization=6, attachments={name: "x.Y"})
    with pytest.raises(UsageError, match=r"@type|\$ref"):
        invocation.encode_request("a.B", "m", "Ljava/util/Map;", [{name: 1}], serialization=6)
    with pytest.raises(UsageError, match=r"@type|\$ref"):
        invocation.encode_reply([{"a": {name: 1}}], serialization=6)
    with pytest.raises(UsageError, match=r"@type|\$ref"):
        invocation.encode_reply(1, attachments={name: "x.Y"}, serialization=6)
    assert invocation.decode_reply(
        invocation.encode_reply({name: 1}, attachments={name: "x"}), 2
    ).attachments == {name: "x"}
