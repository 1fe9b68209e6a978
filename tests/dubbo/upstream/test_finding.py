"""What a provider speaks, found out when it is connected to: on fakes that answer as providers of
2.6, 2.7 and 3.3 were seen to, and as none should."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dragoman.dubbo.upstream.egress import Egress
from dragoman.dubbo.upstream.finding import Finding
from dragoman.dubbo.upstream.link import DubboLink
from dragoman.flow.credits import CreditPool
from dragoman.wire.dubbo.invocation import decode_request, encode_reply
from tests.dubbo.fake import HOST, FakeProvider, Frame
from tests.faults.chain import Chain, chain, start
from tests.faults.http import call, client, form, is_hash

NUMBERS = {"hessian2": 2, "fastjson2": 23, "fastjson": 6}
NAMES = {number: name for name, number in NUMBERS.items()}
# The text of 3.3 for a service that it has not, and that of 2.6 for bytes that it cannot read.
UNKNOWN = b"0TFail to decode request due to: RpcInvocation [methodName=$echo, parameterTypes=null]"
UNREAD = b"0\x83Fail to decode request due to: RpcInvocation [methodName=null, parameterTypes=null"

Behave = Callable[[Frame], bytes | None]


def answers(*names: str) -> Behave:
    """A provider that answers in these, and is silent to others."""

    def behave(asked: Frame) -> bytes | None:
        if NAMES[asked.serialization] not in names:
            return None
        return asked.reply(encode_reply("OK", serialization=asked.serialization))

    return behave


def refuses(behave: Behave) -> Behave:
    """The same, with a refusal instead of silence."""
    return lambda asked: behave(asked) or asked.reply(UNREAD, status=40, serialization=2)


@asynccontextmanager
async def found(behave: Behave) -> AsyncIterator[tuple[Egress, FakeProvider, DubboLink]]:
    loop = asyncio.get_running_loop()
    provider = await FakeProvider(behave).start()
    link = DubboLink(loop, HOST, provider.port, lambda: None)
    egress = Egress(
        *(loop, link, CreditPool(20)), serialization="hessian2", group="g", version="1", token="t"
    )
    link.greeter = Finding(egress, "a.B")
    link.start()
    try:
        yield egress, provider, link
    finally:
        await link.close()
        await provider.close()


async def usable(link: DubboLink) -> None:
    async with asyncio.timeout(30):
        while not link.usable:
            await asyncio.sleep(0.001)


def spoken(behave: Behave) -> tuple[str, list[str]]:
    """What the provider is asked in in the end, and what it was asked to find that out."""

    async def scenario() -> tuple[str, list[str]]:
        async with found(behave) as (egress, provider, link):
            await usable(link)
            assert egress.in_progress == 0 and not egress.silent
            for asked in provider.requests:
                said = decode_request(asked.body, asked.serialization)
                assert (said.method, said.attachments["path"]) == ("$echo", "a.B")
                assert said.attachments["group"] == "g" and said.attachments["token"] == "t"
            return egress.serialization, [NAMES[each.serialization] for each in provider.requests]

    return asyncio.run(scenario())


def test_who_answers_the_usual_one_is_asked_nothing_else() -> None:
    assert spoken(answers("hessian2", "fastjson")) == ("hessian2", ["hessian2"])


def test_who_refuses_is_asked_in_the_next() -> None:
    assert spoken(refuses(answers("fastjson"))) == ("fastjson", list(NUMBERS))
    assert spoken(refuses(answers("fastjson2"))) == ("fastjson2", ["hessian2", "fastjson2"])


def test_who_is_silent_is_asked_in_the_next_too() -> None:
    assert spoken(answers("fastjson")) == ("fastjson", list(NUMBERS))


def test_who_answers_nothing_is_asked_in_hessian2() -> None:
    assert spoken(answers()) == ("hessian2", list(NUMBERS))
    assert spoken(refuses(answers())) == ("hessian2", list(NUMBERS))


@pytest.mark.parametrize(("status", "text"), [(70, b"\x01x"), (60, b"\x01x"), (40, UNKNOWN)])
def test_a_service_that_is_unknown_was_read_all_the_same(status: int, text: bytes) -> None:
    assert spoken(lambda asked: asked.reply(text, status=status, serialization=2)) == (
        *("hessian2", ["hessian2"]),
    )


def test_a_full_pool_is_asked_again() -> None:
    times = 0

    def behave(asked: Frame) -> bytes | None:
        nonlocal times
        times += 1
        full = asked.reply(b"\x01x", status=100, serialization=2)
        return full if times < 4 else answers("hessian2")(asked)

    assert spoken(behave) == ("hessian2", ["hessian2"] * 4)
    always = lambda asked: asked.reply(b"\x01x", status=100, serialization=2)  # noqa: E731
    assert spoken(always)[0] == "hessian2"


def test_silence_to_what_is_asked_counts_against_nobody() -> None:
    async def scenario() -> None:
        async with found(answers()) as (egress, provider, link):
            provider.answers_heartbeats = False
            await usable(link)
            # Longer than a connection with calls under way may be silent.
            await asyncio.sleep(1)
            assert link.usable and not egress.silent and not link.connections[0].silent

    asyncio.run(scenario())


def test_what_is_found_is_told_once_and_asked_first_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with found(refuses(answers("fastjson"))) as (egress, provider, link):
            for connections in (1, 2, 3):
                await usable(link)
                assert provider.connections == connections
                provider.writers[-1].transport.abort()
                async with asyncio.timeout(10):
                    while link.usable:
                        await asyncio.sleep(0.001)
            await usable(link)
            asked = [NAMES[each.serialization] for each in provider.requests]
            assert asked == [*NUMBERS, *["fastjson"] * 3]
            assert egress.serialization == "fastjson"

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert caplog.text.count("asked in fastjson: it answers $echo in it") == 1
    assert caplog.text.count("asked in") == 1


def test_who_ends_the_connection_is_asked_in_another_on_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        def behave(asked: Frame) -> bytes | None:
            if asked.serialization == 6:
                return asked.reply(b'1\n"OK"\n')
            provider.writers[-1].transport.abort()
            return None

        async with found(behave) as (egress, provider, link):
            await usable(link)
            assert egress.serialization == "fastjson" and provider.connections == 3

    asyncio.run(scenario())


def test_who_ends_every_connection_is_left_to_callers() -> None:
    async def scenario() -> None:
        def behave(asked: Frame) -> bytes | None:
            provider.writers[-1].transport.abort()
            return None

        async with found(behave) as (egress, provider, link):
            await usable(link)
            assert egress.serialization == "hessian2" and provider.connections == 4

    asyncio.run(scenario())


def test_an_answer_that_comes_late_counts_unless_calls_are_answered() -> None:
    async def scenario() -> None:
        held: list[tuple[Frame, asyncio.StreamWriter]] = []

        def behave(asked: Frame) -> bytes | None:
            if asked.serialization == 6:
                held.append((asked, provider.writers[-1]))
            return None

        async with found(behave) as (egress, provider, link):
            await usable(link)
            assert egress.serialization == "hessian2"
            ((asked, writer),) = held
            writer.write(asked.reply(b'1\n"OK"\n'))
            async with asyncio.timeout(10):
                while egress.serialization != "fastjson":
                    await asyncio.sleep(0.001)
            async with asyncio.timeout(10):
                while not link.idle:
                    await asyncio.sleep(0.001)

    asyncio.run(scenario())


@pytest.mark.parametrize("serialization", ["fastjson", "hessian2"])
def test_an_agent_that_was_told_nothing_serves_the_demo_provider(
    tmp_path: Path, serialization: str
) -> None:
    async def scenario(own: Chain) -> None:
        provider = own.provider("demo", "--delay-ms", "1", "--serialization", serialization)
        agent = own.provider_agent(
            *("agent", provider, "--serialization", "auto"), registry="memory://alone"
        )
        caller = own.consumer_agent("caller", registry=f"static://{HOST}:{agent.port}")
        await start(provider, agent, caller)
        async with client(caller.port) as one, asyncio.timeout(60):
            # An agent is ready before it knows what its provider speaks.
            while (await one.ask(form("early"))).status == 503:
                await asyncio.sleep(0.01)
            for text in ("hello", "again"):
                assert is_hash(await one.ask(form(text)), text)
        (worker,) = (await agent.status())["workers"]
        assert worker["serialization"] == serialization
        assert agent.text().count("asked in") == 1

    with chain(tmp_path) as own:
        asyncio.run(scenario(own))


def test_a_provider_without_an_agent_that_was_not_said_to_speak_anything_is_found_out_too(
    tmp_path: Path,
) -> None:
    async def scenario(own: Chain) -> None:
        # As 3.3: silent to what it does not take.
        provider = await FakeProvider(answers("hessian2")).start()
        registry = f"static://{HOST}:{provider.port}?protocol=dubbo"
        caller = own.consumer_agent("caller", registry=registry)
        await start(caller)
        async with client(caller.port) as one:
            asked = call("m", b'{"args":["x"]}', "x-dragoman-timeout-ms: 500", interface="a.B")
            answer = await one.ask(asked)
            assert (answer.status, answer.error) == (504, "deadline")
            assert b"never answered in fastjson" in answer.body
            async with asyncio.timeout(20):
                while answer.status != 200:
                    answer = await one.ask(asked)
            assert answer.body == b'"OK"'
        await provider.close()

    with chain(tmp_path) as own:
        asyncio.run(scenario(own))
