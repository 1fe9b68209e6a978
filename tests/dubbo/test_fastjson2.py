"""fastjson2 through the agents' inside, the SDK's client and the SDK's services."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from interop.python_values import differs
from interop.service import Blue, Green, Plain

from dragoman import dubbo
from dragoman.dubbo.upstream.decode_reply import Replies
from dragoman.dubbo.upstream.encode_request import Requests
from dragoman.errors import Code, ProtocolError, RemoteError, UsageError
from dragoman.testing import DubboProvider
from dragoman.wire import hessian2
from dragoman.wire.dubbo.invocation import (
    FASTJSON2,
    HESSIAN2,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from dragoman.wire.java import Bean, Long, TypedList
from tests.dubbo.fake import Frame, way
from tests.dubbo.peer import EVENT, REQUEST, TWO_WAY, Reply, peer

RECORDED = Path(__file__).parent.parent / "conformance" / "dubbo" / "3.3-fastjson2.json"
CALLS = json.loads(RECORDED.read_text())["calls"]
BODY = b"a.B\0m\0\0\0{}"


def asked(method: bytes, body: bytes) -> Any:
    """What a provider of fastjson2 is asked, group and version of its own."""
    frame = Requests("fastjson2", group="g", version="1.0").make(method, 7, body)
    assert frame[2] & 0x1F == FASTJSON2
    assert int.from_bytes(frame[12:16]) == len(frame) - 16
    return frame[2], decode_request(frame[16:], FASTJSON2)


def test_a_form_becomes_a_request() -> None:
    form = (
        b"interface=a.B&method=hash&parameterTypesString=Ljava%2Flang%2FString%3B&parameter=%C3%A9"
    )
    flags, request = asked(b"form", form)
    assert flags & 0x40
    assert request[:6] == ("2.0.1", "a.B", "1.0", "hash", "Ljava/lang/String;", ["é"])
    assert request.attachments["group"] == "g"


def test_json_becomes_typed_arguments() -> None:
    call = {
        "types": [
            "long",
            "java.math.BigDecimal",
            "java.util.Date",
            "java.util.Set<java.lang.Long>",
        ],
        "args": [5, 1.50, "2020-01-02T03:04:05Z", [1]],
        "attachments": {"k": "v"},
        "envelope": True,
    }
    body = b"a.B\0m\0\0\0" + json.dumps(call).replace("1.5,", "1.50,").encode()
    _, request = asked(b"json", body)
    assert request.protocol == "2.0.2"
    assert request.descriptor == "JLjava/math/BigDecimal;Ljava/util/Date;Ljava/util/Set;"
    number, price, date, numbers = request.arguments
    assert (number, str(price)) == (5, "1.50")
    assert date == datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert numbers == TypedList("java.util.HashSet", [1]) and type(numbers[0]) is Long
    assert request.attachments["k"] == "v"


def test_beans_go_by_generic_invocation_and_one_way_calls_say_so() -> None:
    call = {"types": ["a.User"], "args": [{"name": "Ann"}], "oneway": True}
    flags, request = asked(b"json", b"a.B\0m\0\0\0" + json.dumps(call).encode())
    assert not flags & 0x40
    assert request.method == "$invoke" and request.attachments["generic"] == "true"
    assert request.arguments == ["m", ["a.User"], [{"name": "Ann"}]]


def test_an_argument_with_one_name_in_capitals_is_a_bean_unless_it_was_text() -> None:
    call = {
        "types": ["a.User", "a.Color", "java.util.List<a.Color>", "java.util.List<a.User>"],
        "args": [
            {"name": "BOB"},
            "RED",
            ["Green"],
            [{"name": "ANN"}, {"class": "b.C", "name": "D"}],
        ],
        "generic": False,
    }
    _, request = asked(b"json", b"a.B\0m\0\0\0" + json.dumps(call).encode())
    user, color, colors, users = request.arguments
    told = [(each.java_class, each.constant) for each in (user, color, *colors, *users)]
    assert told == [
        ("a.User", False), ("a.Color", True), ("a.Color", True), ("a.User", False), ("b.C", False)
    ]  # fmt: skip
    # Where hessian2 has come between, capitals decide.
    _, request = asked(b"hessian2", hessian_call("La/User;La/Color;", *request.arguments[:2]))
    assert [each.constant for each in request.arguments] == [True, True]


def hessian_call(descriptor: str, *arguments: Any) -> bytes:
    encoded = hessian2.encode(*arguments, types=descriptor)
    names = f"a.B\0m\0\0\0{descriptor}\0".encode()
    return names + len(encoded).to_bytes(4) + encoded + hessian2.encode({"k": "v", "path": "x"})


def test_arguments_in_hessian2_are_written_anew() -> None:
    bean = Bean("a.User", name="Ann", born=datetime.date(2000, 1, 2))
    bean["self"] = bean
    _, request = asked(b"hessian2", hessian_call("La/User;Ljava/lang/Object;", bean, [Long(1)]))
    user, rest = request.arguments
    assert user["self"] is user and user["born"] == datetime.date(2000, 1, 2)
    assert rest == [1] and type(rest[0]) is Long
    told = {"path": "a.B", "version": "1.0", "group": "g", "k": "v"}
    assert told.items() <= request.attachments.items()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"a.B\0m\0\0\0I\0\x00\x00\x00\x01C", "a call that cannot be read: hessian2"),
        (b"a.B\0m\0\0\0I\0\x00\x00\x00\x02\x90\x90", "a call that cannot be read"),
        (b"a.B\0m\0\0\0I\0\x00\x00\x00\x01", "1 bytes of arguments"),
    ],
)
def test_arguments_that_are_none_are_refused(body: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Requests("fastjson2").make(b"hessian2", 1, body)


def test_an_argument_that_names_a_type_is_refused() -> None:
    call = b'a.B\0m\0\0\0{"args": [{"@type": "a.Evil"}]}'
    with pytest.raises(UsageError, match="@type is not passed on"):
        Requests("fastjson2").make(b"json", 1, call)


# ---- replies


def given(value: Any, *, answer: str = "json", **wants: Any) -> Any:
    body = encode_reply(value, attachments={"a": "b"}, serialization=FASTJSON2)
    code, made = Replies().give(FASTJSON2, body, answer=answer, **wants)
    assert code == 0, made
    return json.loads(made) if answer == "json" else made


def test_replies_come_as_json_with_class_names_only_when_asked_for() -> None:
    user = Bean("a.User", name="Ann", age=Long(7), price=Decimal("9.90"))
    assert given(user) == {"name": "Ann", "age": 7, "price": 9.9}
    assert given(user, class_names=True)["class"] == "a.User"
    assert given([user, user], envelope=True)["attachments"] == {"a": "b"}
    assert given("é", answer="text") == "é".encode()
    assert given(None) is None
    assert given({"gson": 1}, generic=True) == {"gson": 1}


def test_replies_come_as_hessian2_for_those_who_want_it() -> None:
    user = Bean("a.User", name="Ann", born=datetime.date(2000, 1, 2))
    reply = decode_reply(given(user, answer="body"), HESSIAN2)
    assert reply.value == user and reply.attachments == {"a": "b"}


def test_a_throwable_is_the_services_own_error() -> None:
    thrown = Bean("a.Refused", detailMessage="no 中", stackTrace=[])
    body = encode_reply(exception=thrown, serialization=FASTJSON2)
    code, text = Replies().give(FASTJSON2, body, answer="json")
    assert (code, text) == (Code.REMOTE, "a.Refused: no 中")


def test_a_reply_that_is_malformed_harms_its_own_call_alone() -> None:
    replies = [
        b"\x00\x00\x00\x02\xbd\x01\x00\x00\x00\x01\xa5",
        b"\xff" * 20,
        b"",
        encode_reply("well", serialization=FASTJSON2),
    ]

    def play(request: Frame) -> bytes:
        return request.reply(replies.pop(0), serialization=FASTJSON2)

    async def scenario() -> None:
        async with way(play, serialization="fastjson2") as one:
            for _ in range(3):
                with pytest.raises(ProtocolError, match="the provider's reply is malformed: fastj"):
                    await one.call("json", BODY)
            assert await one.call("json", BODY) == b'"well"'
            assert one.provider.connections == 1

    asyncio.run(scenario())


def test_a_reply_is_read_in_the_serialization_that_it_names() -> None:
    value = {"k": [1, "x"]}
    bodies = {FASTJSON2: encode_reply(value, serialization=FASTJSON2), 2: encode_reply(value)}
    order = [FASTJSON2, 2, 2, FASTJSON2]

    def play(request: Frame) -> bytes:
        kind = order.pop(0)
        return request.reply(bodies[kind], serialization=kind)

    async def scenario() -> None:
        for spoken in ("fastjson2", "hessian2"):
            async with way(play, serialization=spoken) as one:
                for _ in range(2):
                    assert json.loads(await one.call("json", BODY)) == value

    asyncio.run(scenario())


def test_errors_under_another_status_are_read() -> None:
    text = "Fail to decode request due to: RpcInvocation [methodName=tezt]"

    def play(request: Frame) -> bytes:
        field = dubbo_text(text)
        return request.reply(field, status=40, serialization=FASTJSON2)

    async def scenario() -> None:
        async with way(play, serialization="fastjson2") as one:
            with pytest.raises(Exception, match="methodName=tezt"):
                await one.call("json", BODY)

    asyncio.run(scenario())


def dubbo_text(text: str) -> bytes:
    data = b"\x79\x38" + bytes((len(text),)) + text.encode()
    return len(data).to_bytes(4) + data


def test_recorded_replies_come_back_as_json() -> None:
    """What a real provider wrote: generic results name what plain ones leave to declarations."""
    seen = 0
    for call in CALLS:
        if "reply" not in call or len(call["reply"]) > 40_000 or call["name"] == "cycle":
            continue
        code, made = Replies().give(
            FASTJSON2, bytes.fromhex(call["reply"])[16:], answer="json", generic=True
        )
        told = call["result"]
        if code == 0:
            found = json.loads(made)
            if isinstance(told, str) or told is None or isinstance(told, bool):
                assert found == told or call["name"] == "timeout", call["name"]
                seen += 1
        else:
            assert code == Code.REMOTE and "Exception: " in made, call["name"]
            seen += 1
    assert seen > 40


# ---- the SDK


@dubbo.bean("a.Color")
class Color(enum.Enum):
    RED = 1
    GREEN = 2


@dubbo.bean("a.Line")
@dataclass
class Line:
    article: str | None
    count: int
    price: Decimal | None
    color: Color | None = None
    id: uuid.UUID | None = None


@dubbo.service("a.Lines")
class Lines:
    async def same(self, line: Line) -> Line:
        return line

    async def which(self, color: Color) -> Color:
        return color

    async def refuse(self, why: str) -> str:
        raise dubbo.JavaError(why)

    async def any(self, value: dubbo.java.Object) -> dubbo.java.Object:
        return value


def test_the_sdk_calls_providers_of_fastjson2() -> None:
    line = Line("x", 2, Decimal("9.90"), Color.GREEN, uuid.UUID(int=5))
    stub = Bean("a.Line", article="x", count=2, price=Decimal("9.90"), color=1, id=uuid.UUID(int=5))

    def same(asked: Bean) -> Bean:
        assert asked["color"] == Bean("a.Color", name="GREEN")
        assert asked["id"] == uuid.UUID(int=5).bytes
        # As Java writes it: an enum of a declared field by its place.
        return stub

    def refuse(why: str) -> None:
        raise dubbo.JavaError(why, java_class="a.Refused")

    async def scenario() -> None:
        methods = {"same": same, "refuse": refuse}
        async with (
            DubboProvider("a.Lines", methods, serializations=("fastjson2",)) as provider,
            dubbo.Client(f"{provider.url}?serialization=fastjson2") as client,
        ):
            lines = client.service(Lines)
            assert await lines.same(line) == line
            with pytest.raises(dubbo.JavaError, match="no") as caught:
                await lines.refuse("no")
            assert caught.value.java_class == "a.Refused"
        assert [call.serialization for call in provider.calls] == ["fastjson2"] * 2

    asyncio.run(scenario())


def ask(method: str, descriptor: str, *arguments: Any, **more: Any) -> bytes:
    return encode_request("a.Lines", method, descriptor, arguments, serialization=FASTJSON2, **more)


def test_the_sdks_services_answer_in_fastjson2() -> None:
    flags = REQUEST | TWO_WAY | FASTJSON2

    async def scenario() -> None:
        async with (
            await dubbo.serve(Lines(), 0) as server,
            peer(server.address) as consumer,
        ):
            # What is null or zero is not there, an enum is its place.
            small = await consumer.ask(ask("same", "La/Line;", Bean("a.Line", color=1)), flags)
            assert (small.flags, small.status) == (FASTJSON2, 20)
            line = decode_reply(small.body, FASTJSON2).value
            assert line["color"] == Bean("a.Color", name="GREEN") and line["count"] == 0
            which = await consumer.ask(
                ask("which", "La/Color;", Bean("a.Color", name="RED")), flags
            )
            assert decode_reply(which.body, FASTJSON2).value == Bean("a.Color", name="RED")
            refused = await consumer.ask(ask("refuse", "Ljava/lang/String;", "no"), flags)
            assert decode_reply(refused.body, FASTJSON2).exception["detailMessage"] == "no"
            none = await consumer.ask(ask("none", "", *[]), flags)
            assert none.flags == FASTJSON2 and none.status == 70
            bad = await consumer.ask(b"\x00\x00\x00\x01\xa5", flags)
            assert bad.status == 40
            consumer.send(b"\xaf", flags | EVENT)
            heartbeat = await consumer.receive()
            assert (heartbeat.flags, heartbeat.body) == (EVENT | FASTJSON2, b"\xaf")
            echo = ask("$echo", "Ljava/lang/Object;", [Long(1)])
            assert (await consumer.ask(echo, flags)).body.endswith(b"\x00\x00\x00\x02\x95\xe1")

    asyncio.run(scenario())


def test_the_sdk_answers_what_a_real_consumer_asked() -> None:
    calls = [each for each in CALLS if each["outcome"] == "pass" and "reply" in each]
    calls = [each for each in calls if each["name"] != "timeout"]

    async def answers() -> dict[str, Reply]:
        got = {}
        async with (
            await dubbo.serve([Plain(), Blue(), Green()], 0) as server,
            peer(server.address) as consumer,
        ):
            for call in calls:
                consumer.writer.write(bytes.fromhex(call["request"]))
                got[call["name"]] = await consumer.receive()
        return got

    wrong = {}
    for name, reply in asyncio.run(answers()).items():
        told = next(each["result"] for each in calls if each["name"] == name)
        if reply.status != 20:
            wrong[name] = reply.status
            continue
        said = decode_reply(reply.body, FASTJSON2)
        if isinstance(told, dict) and "throwable" in told:
            if (said.exception or Bean("x")).java_class != told["throwable"]:
                wrong[name] = said
        elif name.startswith("generic") and "declared exception" in name:
            assert said.threw
        elif why := differs(told, said.value, declared=True):
            wrong[name] = why
    assert wrong == {}


def test_a_remote_error_is_told() -> None:
    def play(request: Frame) -> bytes:
        thrown = Bean("a.Refused", detailMessage="no")
        return request.reply(encode_reply(exception=thrown, serialization=FASTJSON2))

    async def scenario() -> None:
        async with way(play, serialization="fastjson2") as one:
            with pytest.raises(RemoteError, match=r"a\.Refused: no"):
                await one.call("json", BODY)

    asyncio.run(scenario())
