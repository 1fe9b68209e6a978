"""Real providers of Dubbo 2.7 and 3.3 that ask for a token and serve under a path of their own, and
agents that were told nothing of what their provider speaks. Skips where Java cannot be run."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from interop.java import JavaMissing, JavaProgram, build

from dragoman import dubbo
from dragoman.errors import DragomanError
from dragoman.harness.etcd import free_ports
from tests.faults.chain import HOST, Chain, Program, chain, start
from tests.faults.http import Response, call, client
from tests.registry.zookeeper_server import ZookeeperServer

pytestmark = pytest.mark.timeout(900)

TYPES = "org.dragoman.interop.Types"
TOKEN = "sesame-open"
# Of the one the interface, of the other whatever its owner likes.
PATHS = {"2.7": {"path": "custom/path"}, "3.3": {"contextpath": "shop"}}
SERVED = {"2.7": "custom/path", "3.3": f"shop/{TYPES}"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Chain]:
    try:
        build()
    except JavaMissing as missing:
        pytest.skip(f"real Dubbo cannot be run: {missing}")
    with chain(tmp_path) as made:
        yield made


def provider(stack: ExitStack, release: str, **settings: object) -> int:
    (port,) = free_ports(1)
    one = JavaProgram(release, "Provider", port=port, host=HOST, **settings)
    assert one.process.stdout is not None
    stack.callback(one.process.stdout.close)
    stack.enter_context(one).wait_line("ready", 120)
    return port


async def ask(agent: Program, text: str) -> Response:
    async with client(agent.port) as one:
        asked = json.dumps({"args": [text]}).encode()
        return await one.ask(call("text", asked, interface=TYPES))


async def answered(agent: Program, text: str) -> None:
    """Wait for the answer; refusals before the provider is known are none."""
    async with asyncio.timeout(60):
        while (answer := await ask(agent, text)).status in (404, 503):
            await asyncio.sleep(0.05)
    assert (answer.status, json.loads(answer.body)) == (200, text), answer.body


@pytest.mark.parametrize("release", PATHS)
def test_a_registered_token_and_path_are_named_to_a_real_provider(
    own: Chain, tmp_path: Path, release: str
) -> None:
    server = ZookeeperServer(tmp_path / "zookeeper")
    server.start()
    try:
        with ExitStack() as stack:
            port = provider(stack, release, registry=server.url, token=TOKEN, **PATHS[release])

            async def scenario() -> None:
                agent = own.consumer_agent("agent", registry=server.url)
                await start(agent)
                await answered(agent, "by the agent")
                async with dubbo.Client(server.url) as caller:
                    services = await caller.services()
                    (found,) = [each for each in services[TYPES] if not each.group]
                    assert (found.path, found.token) == (SERVED[release], TOKEN)
                    assert await caller.service(TYPES).text("by the SDK") == "by the SDK"
                where = f"dubbo://{HOST}:{port}"
                async with dubbo.Client(where) as unaware:
                    with pytest.raises(DragomanError):
                        await unaware.service(TYPES).text("x")
                said = f"{where}?path={SERVED[release]}&token={TOKEN}"
                async with dubbo.Client(said) as aware:
                    assert await aware.service(TYPES).text("told") == "told"
                assert TOKEN not in agent.text() + json.dumps(await agent.status())

            asyncio.run(scenario())
    finally:
        server.kill()


@pytest.mark.parametrize("release", ["2.7", "3.3"])
def test_an_agent_that_was_told_nothing_asks_in_what_a_real_provider_answers(
    own: Chain, release: str
) -> None:
    with ExitStack() as stack:
        port = provider(stack, release, token=TOKEN, **PATHS[release])

        async def scenario() -> None:
            told = ("--interface", TYPES, "--token", TOKEN, "--path", SERVED[release])
            agents = {}
            for name in ("auto", "fastjson"):
                more = ("--serialization", name)
                agents[name] = own.provider_agent(
                    *(f"{name}-agent", port, *told, *more), registry="memory://alone"
                )
                caller = own.consumer_agent(
                    f"{name}-caller",
                    *("--timeout-ms", "1000"),
                    registry=f"static://{HOST}:{agents[name].port}",
                )
                await start(agents[name], caller)
                if name == "auto" or release == "2.7":
                    await answered(caller, "found")
                    continue
                # 3.3 is silent to fastjson: whoever insists on it is told.
                async with asyncio.timeout(60):
                    while (answer := await ask(caller, "x")).status == 503:
                        await asyncio.sleep(0.05)
                assert (answer.status, answer.error) == (504, "deadline")
                assert b"never answered in fastjson" in answer.body
                assert "never answered in fastjson" in agents[name].text()
            told = re.findall(r"asked in (\S+): it answers \$echo", agents["auto"].text())
            # A provider that is slow to start may answer the later question first.
            assert len(told) == 1 and told[0] in ("hessian2", "fastjson")
            assert told == ["hessian2"] or release == "2.7"
            assert TOKEN not in agents["auto"].text()

        asyncio.run(scenario())
