"""What a provider's agent lets through: calls of the interfaces that it was given, in any form."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.errors import NotFoundError, UsageError
from tests.dubbo.fake import Frame, way
from tests.dubbo.upstream.test_hessian2_method import call, text
from tests.waiting import until

SERVED = ("a.B", "com.example.Served")
OTHERS = (
    "a.C",
    "a.BB",
    "A.B",
    "a.B ",
    "blue/a.B:1.0",
    "",
    "org.apache.dubbo.metadata.X",
    "x" * 600,
)
SERIALIZATIONS = ("fastjson", "fastjson-lengths", "hessian2", "fastjson2")


def form(interface: str, method: str = "m") -> bytes:
    return (
        f"interface={interface}&method={method}&parameterTypesString=Ljava/lang/String;&parameter=7"
    ).encode()


def json(interface: str, method: str = "m", body: str = '{"args": []}') -> bytes:
    return f"{interface}\0{method}\0\0\0{body}".encode()


def requests(interface: str) -> dict[str, tuple[str, bytes]]:
    """By name: a mesh method and its body."""
    return {
        "a form": ("form", form(interface)),
        "a form with JSON": ("form", form(interface).replace(b"String;", b"Object;")),
        "an escaped form": ("form", form(interface.replace(".", "%2E").replace(" ", "+"))),
        "JSON": ("json", json(interface)),
        "a generic call": ("json", json(interface, "m", '{"args": ["x"], "generic": true}')),
        "$invoke": ("json", json(interface, "$invoke")),
        "$echo": ("json", json(interface, "$echo", '{"args": ["x"]}')),
        "hessian2": ("hessian2", call(b"\x90", interface=interface)),
        "hessian2 one way": ("hessian2-oneway", call(b"\x90", interface=interface)),
    }


def fine(asked: Frame) -> bytes | None:
    json = b"1\n7" if asked.serialization == 6 else b"\x91\x97"
    return asked.reply(json, serialization=6 if json[:1] == b"1" else 2)


@pytest.mark.parametrize("serialization", SERIALIZATIONS)
def test_only_the_interfaces_given_are_called(serialization: str) -> None:
    async def scenario() -> None:
        async with way(fine, serialization=serialization, interfaces=SERVED) as one:
            for interface in OTHERS:
                for name, (method, body) in requests(interface).items():
                    with pytest.raises(NotFoundError, match="--interface") as caught:
                        await one.call(method, body)
                    assert caught.value.retry_safe, (interface, name)
                    assert len(str(caught.value)) < 300
            assert one.provider.requests == []
            for interface in SERVED:
                for method, body in requests(interface).values():
                    await one.call(method, body)
            # The last is one that nobody answers.
            await until(lambda: len(one.provider.requests) == 2 * len(requests("")))

    asyncio.run(scenario())


def test_without_interfaces_any_is_called() -> None:
    async def scenario() -> None:
        async with way(fine, serialization="hessian2") as one:
            await one.call("json", json("any.Thing"))
            assert b"any.Thing" in one.provider.requests[0].body

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["path", "interface", "group", "version"])
@pytest.mark.parametrize("serialization", SERIALIZATIONS)
def test_no_attachment_turns_a_call_to_another_service(serialization: str, name: str) -> None:
    """Java's providers let attachments overrule what stands before them, and read a name in any of
    the forms that hessian2 has for a text."""
    ascii = name.encode()
    size = len(ascii)
    forms = {
        "short": text(name),
        "two bytes of length": bytes((0x30, size)) + ascii,
        "three bytes of length": b"S\x00" + bytes((size,)) + ascii,
        "in chunks": b"R\x00\x02" + ascii[:2] + bytes((size - 2,)) + ascii[2:],
        "with an empty chunk": b"R\x00\x00" + bytes((size,)) + ascii,
        "with a character in two bytes": bytes((size, 0xC0 | ascii[0] >> 6, 0x80 | ascii[0] & 63))
        + ascii[1:],
        "with a character in three bytes": bytes((size, 0xE0, 0x80 | ascii[0] >> 6))
        + bytes((0x80 | ascii[0] & 63,))
        + ascii[1:],
    }

    async def scenario() -> None:
        async with way(fine, serialization=serialization, interfaces=SERVED) as one:
            for form_name, written in forms.items():
                attachments = b"H" + written + text("evil.Service") + text("k") + text("v") + b"Z"
                try:
                    await one.call("hessian2", call(b"\x90", attachments))
                except UsageError:
                    continue
                assert b"evil.Service" not in one.provider.requests[-1].body, form_name
            with pytest.raises(UsageError, match=f"{name} is set by the call"):
                body = f'{{"args": [], "attachments": {{"{name}": "evil.Service"}}}}'
                await one.call("json", json("a.B", "m", body))
            assert all(b"evil" not in each.body for each in one.provider.requests)

    asyncio.run(scenario())
