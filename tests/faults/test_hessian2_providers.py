"""The HTTP contracts through real agents to providers that speak hessian2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.faults.chain import HOST, INTERFACE, Program, chain, start
from tests.faults.http import call, client, form, is_hash
from tests.faults.test_contracts import TEXTS

SPEAKS = ("--serialization", "hessian2")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A consumer agent before a demo provider with its agent, found in a static list."""
    with chain(tmp_path_factory.mktemp("hessian2")) as made:
        provider = made.provider("provider", "--delay-ms", "1", *SPEAKS)
        listed = f"static://{HOST}:{made.port('provider-agent')}?interface={INTERFACE}"
        beside = made.provider_agent("provider-agent", provider, *SPEAKS, registry="memory://x")
        consumer = made.consumer_agent("consumer", registry=listed)

        async def begin() -> None:
            await start(provider, beside, consumer)
            await consumer.settled(1)

        asyncio.run(begin())
        yield consumer


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_comes_back_as_it_was(agent: Program, name: str) -> None:
    text = TEXTS[name]

    async def scenario() -> None:
        async with client(agent.port) as one:
            assert is_hash(await one.ask(form(text)), text)
            echoed = await one.ask(form(text, method="echo"))
            assert (echoed.status, echoed.body.decode()) == (200, text)
            body = json.dumps({"args": [text]}).encode()
            assert is_hash(await one.ask(call("hash", body)), text)
            assert json.loads((await one.ask(call("echo", body))).body) == text

    asyncio.run(scenario())


NESTED = {"name": 'a"b', "list": [1, -2.5, None, {"deep": [[[]]], "t": True}], "big": 1 << 70}
CALLS = [
    ("now", b"", 1527811200000),
    ("now", b"{}", 1527811200000),
    ("nothing", b"{}", None),
    ("names", b"{}", {"1": "one", "2": "two"}),
    ("echo", b'{"types": ["java.lang.String"], "args": [null]}', None),
    ("add", b'{"args": [2, 3]}', 5),
    ("add", b'{"types": ["int", "int"], "args": [2147483647, "1"]}', -2147483648),
    ("bean", json.dumps({"args": [NESTED]}).encode(), NESTED),
    ("bean", json.dumps({"types": ["java.util.Map"], "args": [NESTED]}).encode(), NESTED),
    ("bean", json.dumps({"args": [NESTED], "generic": True}).encode(), NESTED),
    ("bean", json.dumps({"args": [NESTED], "generic": "gson"}).encode(), NESTED),
    ("bean", b'{"types":["a.B"],"args":[{"x":1,"class":"a.C"}]}', {"x": 1}),
    (
        "bean",
        b'{"types":["a.B"],"args":[{"x":1,"class":"a.C"}],"class":true}',
        {"x": 1, "class": "a.C"},
    ),
    ("$echo", b'{"types": ["java.lang.Object"], "args": ["OK"]}', "OK"),
    ("$echo", b'{"types": ["java.lang.Object"], "args": [1.50]}', 1.5),
    (
        "echo",
        b'{"args":["x"],"attachments":{"a":"b\\r\\nx-evil: 1"},"envelope":true}',
        {"result": "x", "attachments": {"dubbo": "2.0.2"}},
    ),
]


@pytest.mark.parametrize(("method", "body", "expected"), CALLS)
def test_the_json_contract_carries_any_arguments(
    agent: Program, method: str, body: bytes, expected: object
) -> None:
    async def scenario() -> None:
        async with client(agent.port) as one:
            answer = await one.ask(call(method, body))
            assert answer.status == 200, answer
            assert answer.headers["content-type"] == "application/json"
            assert json.loads(answer.body) == expected

    asyncio.run(scenario())


def test_every_digit_of_a_decimal_comes_back(agent: Program) -> None:
    digits = b"12345678901234567890.123456789012345678901"

    async def scenario() -> None:
        async with client(agent.port) as one:
            typed = b'{"types":["java.lang.Object"],"args":[%s]}' % digits
            assert (await one.ask(call("$echo", typed))).body == digits

    asyncio.run(scenario())


def test_a_call_without_result_is_accepted(agent: Program) -> None:
    async def scenario() -> None:
        async with client(agent.port) as one:
            for _ in range(3):
                answer = await one.ask(call("hash", b'{"args":["x"],"oneway":true}'))
                assert (answer.status, answer.body) == (202, b"")
                assert not answer.closes
            assert is_hash(await one.ask(form("next")), "next")

    asyncio.run(scenario())


REFUSED = {
    "an int out of range": (400, call("add", b'{"types":["int","int"],"args":[1,2147483648]}')),
    "a text for an int": (400, call("add", b'{"types":["int","int"],"args":[1,"x"]}')),
    "a class of the JDK": (400, call("bean", b'{"args":[[{"class":"java.lang.Runtime"}]]}')),
    "@type": (400, call("bean", b'{"args":[{"@type":"a.B"}]}')),
    "an attachment of the call's own": (400, call("now", b'{"attachments":{"group":"x"}}')),
    "attachments that are no texts": (400, call("now", b'{"attachments":{"a":1}}')),
    "generic that is unknown": (400, call("now", b'{"generic":"xml"}')),
    "no such method": (404, call("hash", b'{"args":[1, 2, 3]}')),
    "the provider throws": (500, call("fail", '{"args":["böse\\n\\"x\\""]}'.encode())),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_call_gets_one_line_and_the_connection_goes_on(agent: Program, name: str) -> None:
    status, asked = REFUSED[name]

    async def scenario() -> None:
        async with client(agent.port) as one:
            answer = await one.ask(asked)
            assert answer.status == status, answer
            assert answer.error == {400: "malformed", 404: "not-found", 500: "remote"}[status]
            assert answer.body.count(b"\n") == 1 and answer.body.endswith(b"\n")
            if name == "the provider throws":
                assert answer.body.decode() == 'java.lang.RuntimeException: böse "x"\n'
            assert is_hash(await one.ask(form("next")), "next")

    asyncio.run(scenario())
