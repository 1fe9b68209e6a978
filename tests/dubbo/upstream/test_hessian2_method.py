"""The mesh method ``hessian2``: a call whose arguments are hessian2 already."""

from __future__ import annotations

import asyncio
import struct

import pytest

from dragoman.errors import NotFoundError, UsageError
from tests.dubbo.fake import HESSIAN2, Frame, untimed_body, way
from tests.load_factor import load_factor

SEVEN = b"\x91\x97"


def text(string: str) -> bytes:
    """A hessian2 string of up to 31 ASCII characters, or up to 1023."""
    data = string.encode()
    assert len(data) < 1024 and string.isascii()
    return bytes((len(data),) if len(data) < 32 else (0x30 + (len(data) >> 8), len(data) & 255)) + (
        data
    )


def call(
    arguments: bytes,
    attachments: bytes = b"",
    *,
    interface: str = "a.B",
    method: str = "m",
    descriptor: str = "I",
    length: int | None = None,
) -> bytes:
    names = "".join(f"{name}\0" for name in (interface, method, "", "", descriptor)).encode()
    size = len(arguments) if length is None else length
    return names + struct.pack(">I", size) + arguments + attachments


def expected(
    arguments: bytes, attachments: bytes = b"", *, group: str = "", version: str = ""
) -> bytes:
    own = text("path") + text("a.B") + text("interface") + text("a.B")
    own += text("version") + text(version) if version else b""
    own += text("group") + text(group) if group else b""
    return (
        text("2.0.2")
        + text("a.B")
        + (text(version) if version else b"N")
        + text("m")
        + text("I")
        + arguments
        + b"H"
        + own
        + attachments
        + b"Z"
    )


def seven(asked: Frame) -> bytes:
    return asked.reply(SEVEN)


@pytest.mark.parametrize("arguments", [b"", b"\x90", b"\x03abc\x49\x00\x01\x00\x00", b"x" * 70000])
def test_arguments_reach_a_hessian2_provider_as_they_came(arguments: bytes) -> None:
    async def scenario() -> None:
        async with way(seven, serialization="hessian2") as one:
            assert await one.call("hessian2", call(arguments)) == SEVEN
            (asked,) = one.provider.requests
            assert asked.flags == 0x80 | 0x40 | HESSIAN2
            assert untimed_body(asked.body) == expected(arguments)

    asyncio.run(scenario())


def test_group_and_version_are_the_registrations() -> None:
    async def scenario() -> None:
        async with way(seven, serialization="hessian2", group="blue", version="1.2") as one:
            await one.call("hessian2", call(b"\x90"))
            body = untimed_body(one.provider.requests[0].body)
            assert body == expected(b"\x90", group="blue", version="1.2")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (b"", b""),
        (b"N", b""),
        (b"HZ", b""),
        (b"H\x01k\x01vZ", b"\x01k\x01v"),
        (b"M\x05a.MapH\x01k\x01vZ"[:7] + b"\x01k\x01vZ", b"\x01k\x01v"),
        (b"H\x01kN\x02\xc3\xa9x\x00Z", b"\x01kN\x02\xc3\xa9x\x00"),
        (b"H" + text("x" * 200) + text("y" * 700) + b"Z", text("x" * 200) + text("y" * 700)),
        (b"HR\x00\x01kS\x00\x01e\x01vZ", b"R\x00\x01kS\x00\x01e\x01v"),
        (
            b"H\x04path\x01x\x01k\x01v\x05group\x01y\x07version\x01z\x09interface\x01wZ",
            b"\x01k\x01v",
        ),
    ],
)
def test_attachments_join_those_of_the_call(given: bytes, passed: bytes) -> None:
    async def scenario() -> None:
        async with way(seven, serialization="hessian2") as one:
            await one.call("hessian2", call(b"\x90", given))
            assert untimed_body(one.provider.requests[0].body) == expected(b"\x90", passed)

    asyncio.run(scenario())


BAD = {
    "empty": b"",
    "no names": b"a.B\0m\0",
    "no length": call(b"")[:-2],
    "length beyond what came": call(b"\x90", length=2),
    "length 2^32 - 1": call(b"\x90", length=0xFFFFFFFF),
    "bad descriptor": call(b"\x90", descriptor="Lx"),
    "attachments that are no map": call(b"\x90", b"\x91"),
    "attachments cut short": call(b"\x90", b"H\x01k\x01v"),
    "attachments cut in a text": call(b"\x90", b"H\x01k\x05v"),
    "attachments with numbers": call(b"\x90", b"H\x01k\x91Z"),
    "attachments with more behind": call(b"\x90", b"HZ\x90"),
    "interface that is no utf-8": call(b"\x90").replace(b"a.B", b"a\xff\xfeB"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_malformed_is_refused_and_never_sent(name: str) -> None:
    async def scenario() -> None:
        async with way(seven, serialization="hessian2") as one:
            with pytest.raises(UsageError):
                await one.call("hessian2", BAD[name])
            assert await one.call("hessian2", call(b"\x90")) == SEVEN
            assert len(one.provider.requests) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [b"\x90\x03x.Y", b"\x92", b"\x94\x97HZ", b"\x95HZ", b"\x93NHZ"])
def test_the_whole_body_of_the_reply_comes_back(body: bytes) -> None:
    async def scenario() -> None:
        async with way(lambda asked: asked.reply(body), serialization="hessian2") as one:
            assert await one.call("hessian2", call(b"\x90")) == body

    asyncio.run(scenario())


def test_an_error_status_is_an_error() -> None:
    def missing(asked: Frame) -> bytes:
        return asked.reply(text("no such service"), status=60)

    async def scenario() -> None:
        async with way(missing, serialization="hessian2") as one:
            with pytest.raises(NotFoundError, match="no such service"):
                await one.call("hessian2", call(b"\x90"))

    asyncio.run(scenario())


def test_a_one_way_call_is_answered_at_once_and_keeps_its_place_for_a_while() -> None:
    async def scenario() -> None:
        async def after_50_ms(asked: Frame) -> bytes | None:
            await asyncio.sleep(0.05)
            return asked.reply(SEVEN) if asked.two_way else None

        async with way(after_50_ms, serialization="hessian2") as one:
            for _ in range(30):
                await one.call("hessian2", call(b"\x90"))
            began_s = asyncio.get_running_loop().time()
            assert await one.call("hessian2-oneway", call(b"\x90")) == b""
            assert one.egress.in_progress == 1  # the provider has not answered
            while one.egress.in_progress:
                await asyncio.sleep(0.001)
            assert 0.03 < asyncio.get_running_loop().time() - began_s < 0.2 * load_factor()
            assert one.provider.requests[-1].flags == 0x80 | HESSIAN2
            assert one.egress.late == 0

    asyncio.run(scenario())
