"""Providers that break the protocol: one clear answer for each call, and nobody else suffers."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.chain import eventually
from tests.faults.conftest import Mesh
from tests.faults.http import Client, Response, client, form, is_hash
from tests.faults.load import load

QUICK = "x-dragoman-timeout-ms: 150"


async def ask(one: Client, group: str, text: str = "x", *fields: str) -> Response:
    return await one.ask(form(text, f"x-dragoman-group: {group}", *fields))


def said(answer: Response) -> tuple[int, str]:
    return answer.status, answer.error


def test_garbage_is_502_and_then_the_provider_is_set_aside(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one, load(mesh.agent.port, 4) as others:
            assert is_hash(await ask(one, "garbage", "first"), "first")
            answers = []
            for _ in range(12):
                answers.append(said(await ask(one, "garbage")))
                await asyncio.sleep(0.06)
            assert answers[0] == (502, "upstream-lost") or answers[0] == (502, "upstream-protocol")
            assert {status for status, _ in answers} <= {502, 503}
            assert answers[-1] == (503, "unavailable")
            assert set(await others.stop()) == {"ok"}
        agent = mesh.faulty["garbage"].agent
        assert await agent.metric("dragoman_provider_in_progress") == 0
        assert "broke the protocol" in agent.text()

    asyncio.run(scenario())


def test_a_second_answer_is_dropped(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            for i in range(60):
                assert is_hash(await ask(one, "twice", str(i)), str(i))
            one.send(b"".join(form(str(i), "x-dragoman-group: twice") for i in range(60)))
            for i in range(60):
                assert is_hash(await one.response(), str(i))
        agent = mesh.faulty["twice"].agent
        assert await agent.metric("dragoman_provider_in_progress") == 0
        assert await agent.metric("dragoman_provider_limit") == 8
        await mesh.agent.settled(1, "twice")

    asyncio.run(scenario())


def test_what_is_never_answered_is_504_and_later_calls_are_fine(mesh: Mesh) -> None:
    """Calls 2 to 5 of this provider get no answer."""

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await ask(one, "never", "first"), "first")
            began_s = time.monotonic()
            for _ in range(4):
                assert said(await ask(one, "never", "x", QUICK)) == (504, "deadline")
            assert time.monotonic() - began_s < 4 * 0.25
            for i in range(50):
                assert is_hash(await ask(one, "never", str(i)), str(i))
        await mesh.agent.settled(1, "never")

    asyncio.run(scenario())


@pytest.mark.slow
def test_the_place_of_a_call_that_is_never_answered_is_freed(mesh: Mesh) -> None:
    async def scenario() -> None:
        async def free() -> bool:
            agent = mesh.faulty["never"].agent
            return await agent.metric("dragoman_provider_in_progress") == 0

        await eventually(free, 90.0)

    asyncio.run(scenario())


def test_a_rejected_call_without_another_provider_is_503(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await ask(one, "reject", "first"), "first")
            for _ in range(20):
                began_s = time.monotonic()
                answer = await ask(one, "reject")
                assert said(answer) == (503, "overload")
                assert answer.headers["retry-after"] == "1"
                assert time.monotonic() - began_s < 0.2

    asyncio.run(scenario())


def test_a_rejected_call_goes_to_another_provider(mesh: Mesh) -> None:
    """One of two in the group rejects now and then; nobody notices."""

    async def scenario() -> None:
        async with load(mesh.agent.port, 4, "x-dragoman-group: mixed") as callers:
            await callers.answered(60)
            assert set(await callers.stop()) == {"ok"}
        (service,) = [
            each for each in await mesh.agent.services() if each["service"].startswith("mixed/")
        ]
        assert service["retried"] > 0

    asyncio.run(scenario())


def test_a_provider_that_closes_on_each_call_is_502_and_then_set_aside(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await ask(one, "close", "first"), "first")
            answers = []
            for _ in range(12):
                answers.append(said(await ask(one, "close")))
                await asyncio.sleep(0.06)
            assert answers[0] == (502, "upstream-lost")
            assert set(answers) <= {(502, "upstream-lost"), (503, "unavailable")}
            assert answers[-1] == (503, "unavailable")

    asyncio.run(scenario())


def test_a_provider_that_stops_reading_is_504(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await ask(one, "hang", "first"), "first")
            answers = [said(await ask(one, "hang", "x", QUICK)) for _ in range(8)]
            assert answers[0] == (504, "deadline")
            assert answers[-1] == (503, "unavailable")
            assert set(answers) == {(504, "deadline"), (503, "unavailable")}

    asyncio.run(scenario())
