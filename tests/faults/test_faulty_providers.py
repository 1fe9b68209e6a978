"""Providers that break the protocol: one clear answer for each call, and nobody else suffers."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.conftest import Mesh
from tests.faults.http import Client, Response, call, client, form, form_body, is_hash, post
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until

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
            assert time.monotonic() - began_s < 4 * 0.25 * load_factor()
            for i in range(50):
                assert is_hash(await ask(one, "never", str(i)), str(i))
        await mesh.agent.settled(1, "never")

    asyncio.run(scenario())


@pytest.mark.slow
def test_the_place_of_a_call_that_is_never_answered_is_freed(mesh: Mesh) -> None:
    pair = mesh.chain.pair(
        "silent", ("--fault", "never", "--fault-until", "3"), ("--group", "silent", "--limit", "4")
    )

    async def scenario() -> None:
        await pair.start()
        await mesh.agent.settled(1, "silent")
        async with client(mesh.agent.port) as one:
            for _ in range(3):
                assert said(await ask(one, "silent", "x", QUICK)) == (504, "deadline")
            assert await pair.agent.metric("dragoman_provider_in_progress") == 3
            assert is_hash(await ask(one, "silent", "x"), "x")

        async def free() -> bool:
            return await pair.agent.metric("dragoman_provider_in_progress") == 0

        # Longer than an idle connection is kept: hence another one.
        await until(free, 90.0)
        async with client(mesh.agent.port) as one:
            for i in range(16):
                one.send(form(str(i), "x-dragoman-group: silent"))
            for i in range(16):
                assert is_hash(await one.response(), str(i))

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
                assert time.monotonic() - began_s < 0.2 * load_factor()

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


def test_one_slow_call_does_not_have_its_provider_set_aside(mesh: Mesh) -> None:
    """A lone call of 5 s looks like a provider that hangs; the next call shows that it does not."""

    async def scenario() -> None:
        async with client(mesh.agent.port) as one, client(mesh.agent.port) as slow:
            for i in range(19):
                assert is_hash(await ask(one, "lazy", str(i)), str(i))
            slow.send(form("slow", "x-dragoman-group: lazy", "x-dragoman-timeout-ms: 9000"))
            for pause_s in (0.8, 0.1, 0.7):
                await asyncio.sleep(pause_s)
                began_s = time.monotonic()
                assert is_hash(await ask(one, "lazy", "quick"), "quick")
                assert time.monotonic() - began_s < 0.3 * load_factor()

    asyncio.run(scenario())


def test_callers_in_a_hurry_do_not_have_a_provider_set_aside(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one, client(mesh.agent.port) as hasty:
            for i in range(20):
                answer = await ask(hasty, "slow", "x", "x-dragoman-timeout-ms: 5")
                assert said(answer) == (504, "deadline")
                if i % 10 == 9:
                    assert is_hash(await ask(one, "slow", "patient"), "patient")

    asyncio.run(scenario())


def test_a_call_over_dubbos_payload_fails_alone(mesh: Mesh) -> None:
    """5 MiB of quotes are 10 MiB of JSON: the provider would end the connection at more than 8."""

    async def scenario() -> None:
        async with load(mesh.agent.port, 10) as others, client(mesh.agent.port) as one:
            head = form_body("", "echo")
            answer = await one.ask(post("/", head + b'"' * (5 << 20)))
            assert said(answer) == (413, "too-large")
            answer = await one.ask(call("echo", b'{"args":["' + b"\n" * (5 << 20) + b'"]}'))
            assert answer.status in (400, 413)
            assert is_hash(await one.ask(form("next")), "next")
            assert set(await others.stop()) == {"ok"}

    asyncio.run(scenario())


def test_who_waits_for_a_place_past_its_deadline_is_told(mesh: Mesh) -> None:
    """Two places of 50 ms, 16 requests with 120 ms each."""

    async def scenario() -> None:
        fields = ("x-dragoman-group: tiny", "x-dragoman-timeout-ms: 120")
        async with client(mesh.agent.port) as one:
            for i in range(16):
                one.send(form(str(i), *fields))
            statuses = [said(await one.response()) for _ in range(16)]
            assert 2 <= statuses.count((200, "")) <= 6
            assert statuses.count((504, "deadline")) == 16 - statuses.count((200, ""))
            assert is_hash(await ask(one, "tiny", "after"), "after")

    asyncio.run(scenario())
