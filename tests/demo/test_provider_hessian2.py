"""The demo provider when it speaks hessian2."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dragoman.demo.javahash import java_hash
from dragoman.demo.provider import INTERFACE, NOW, DemoProvider
from dragoman.demo.serving import ProviderOptions
from dragoman.errors import UsageError
from dragoman.wire.dubbo.event import event_name
from dragoman.wire.dubbo.frame import encode_frame, reply_error_text
from dragoman.wire.dubbo.invocation import HESSIAN2, Reply, decode_reply, encode_request
from tests.demo.dubbo_client import DubboClient
from tests.demo.test_provider import with_provider

STRING = "Ljava/lang/String;"
GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
AT_ONCE = ProviderOptions(port=0, delay_ms=0, drain_s=1, serialization="hessian2")


def ask(method: str, descriptor: str, *arguments: Any, **more: Any) -> Reply:
    replies = []

    def client(port: int) -> None:
        with DubboClient(port) as provider:
            body = encode_request(INTERFACE, method, descriptor, arguments, **more)
            provider.send(encode_frame(7, body, request=True, two_way=True, serialization=2))
            frame = provider.frame()
            assert (frame.status, frame.id, frame.serialization) == (20, 7, HESSIAN2)
            replies.append(decode_reply(frame.body, HESSIAN2))

    with_provider(AT_ONCE, client)
    return replies[0]


@pytest.mark.parametrize("protocol", ["2.0.1", "2.0.2"])
@pytest.mark.parametrize(
    ("method", "descriptor", "arguments", "value"),
    [
        ("hash", STRING, ["abc"], 96354),
        ("hash", STRING, ["ä😀" * 100], java_hash("ä😀" * 100)),
        ("hash", STRING, ["x" * 40000], java_hash("x" * 40000)),
        ("echo", STRING, ["a"], "a"),
        ("$echo", "Ljava/lang/Object;", [[1]], [1]),
        ("bean", "Ljava/util/Map;", [{"a": {"b": 1.5}}], {"a": {"b": 1.5}}),
        ("add", "II", [2147483647, 1], -2147483648),
        ("now", "", [], NOW),
        ("names", "", [], {1: "one", 2: "two"}),
        ("nothing", "", [], None),
        ("$invoke", GENERIC, ["add", ["int", "int"], [1, 2]], 3),
    ],
)
def test_the_service_answers(
    protocol: str, method: str, descriptor: str, arguments: list[Any], value: Any
) -> None:
    attachments = {"dubbo": "2.0.2"} if protocol == "2.0.2" else {}
    reply = ask(method, descriptor, *arguments, protocol=protocol)
    assert reply == Reply(value, None, False, attachments)


def test_gson_is_answered_in_json() -> None:
    attachments = {"generic": "gson"}
    reply = ask("$invoke", GENERIC, "bean", None, ['{"a":[1]}'], attachments=attachments)
    assert reply.value == '{"a":[1]}'


@pytest.mark.parametrize(
    ("method", "descriptor", "arguments", "kind"),
    [
        ("fail", STRING, ["böse"], "java.lang.RuntimeException"),
        ("hash", STRING, [None], "java.lang.NullPointerException"),
        ("hash", "I", [1], "java.lang.NoSuchMethodException"),
        ("strange", "", [], "java.lang.NoSuchMethodException"),
    ],
)
def test_what_it_cannot_do_is_thrown(
    method: str, descriptor: str, arguments: list[Any], kind: str
) -> None:
    reply = ask(method, descriptor, *arguments)
    assert reply.threw
    assert reply.exception.java_class == kind


def test_what_it_cannot_read_is_answered_with_a_status_and_others_go_on() -> None:
    def client(port: int) -> None:
        with DubboClient(port) as provider:
            good = encode_request(INTERFACE, "hash", STRING, ["abc"])
            for body, serialization, status in (
                (b"", 2, 40),
                (good[:-1], 2, 40),
                (good, 6, 40),
                (good.replace(b"IHelloService", b"IHellOService"), 2, 60),
            ):
                provider.send(
                    encode_frame(1, body, request=True, two_way=True, serialization=serialization)
                )
                frame = provider.frame()
                assert (frame.status, frame.serialization) == (status, HESSIAN2)
                assert "serialization 2" not in reply_error_text(2, frame.body)
            provider.send(encode_frame(2, good, request=True, two_way=True, serialization=2))
            assert decode_reply(provider.frame().body, 2).value == 96354

    with_provider(AT_ONCE, client)


def test_it_says_that_it_stops_in_hessian2() -> None:
    def client(port: int) -> None:
        seen.append(DubboClient(port))

    seen: list[DubboClient] = []
    with_provider(AT_ONCE, client)
    frame = seen[0].frame()
    assert (frame.serialization, event_name(frame.body)) == (2, "readonly")
    seen[0].socket.close()


def test_a_serialization_that_it_does_not_speak_is_refused() -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(UsageError, match="serialization must be one of"):
        DemoProvider(loop, serialization="kryo")
    loop.close()
