"""The agents as programs: how they refuse to start, run short, and meet strangers."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack

import pytest

from dragoman import rpc
from dragoman.demo.javahash import java_hash
from dragoman.errors import DragomanError, NotFoundError
from tests.faults.chain import INTERFACE, Pair, Program, start
from tests.faults.conftest import Mesh
from tests.faults.http import client, form, form_body, is_hash
from tests.waiting import until

PROVIDER = ("--interface", INTERFACE)


def test_what_is_wrong_is_one_line_and_exit_code_2(mesh: Mesh) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        registry = ("--registry", mesh.chain.registry)
        wrong = {
            "the port is in use": ("consumer", "--listen", busy, *registry),
            f"cannot listen on {busy}": ("provider", "--listen", busy, *PROVIDER, *registry),
            f"admin address {busy}": ("consumer", "--listen", "127.0.0.1:0", "--admin", busy),
            "option --registry": ("consumer", "--registry", "ftp://127.0.0.1:1"),
            "--interface is required": ("provider",),
        }
        programs = {}
        for i, (says, arguments) in enumerate(wrong.items()):
            program = Program(mesh.chain, f"wrong{i}", ["agent", *arguments], 0, 0)
            mesh.chain.programs.append(program)
            programs[says] = program.launch()

        async def scenario() -> None:
            for says, program in programs.items():
                code = await program.ended(30.0)
                text = program.text()
                assert code == 2, (says, text)
                assert text.startswith("dragoman: ") and text.count("\n") == 1, text
                assert says in text

        asyncio.run(scenario())


def test_a_peer_of_a_provider_agent_reaches_what_is_registered_alone(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.chain.provider_agent(
            "open", mesh.first.provider, "--group", "open", "--allow-any-interface"
        )
        await agent.start()
        other = form_body("x").replace(INTERFACE.encode(), b"com.example.Other")
        async with await rpc.connect(f"127.0.0.1:{mesh.first.agent.port}") as peer:
            assert await peer.call("form", form_body("x")) == str(java_hash("x")).encode()
            with pytest.raises(NotFoundError, match=r"no interface 'com\.example\.Other'"):
                await peer.call("form", other)
        async with await rpc.connect(f"127.0.0.1:{agent.port}") as peer:
            # What the demo provider itself says of it.
            with pytest.raises(DragomanError) as caught:
                await peer.call("form", other)
            assert "--interface" not in str(caught.value)
        assert await agent.stop() == 0

    asyncio.run(scenario())


def test_without_descriptors_accepting_neither_spins_nor_ends(mesh: Mesh) -> None:
    """48 descriptors, 150 connections: some are refused, those inside are served, and all is well
    when they have left."""
    chain = mesh.chain

    async def poor(role: str) -> None:
        pair = Pair(
            chain.provider(f"poor-{role}-provider"),
            chain.provider_agent(f"poor-{role}-agent", chain.port(f"poor-{role}-provider")),
        )
        static = f"static://127.0.0.1:{pair.agent.port}"
        consumer = chain.consumer_agent(f"poor-{role}", registry=static)
        victim = consumer if role == "consumer" else pair.agent
        victim.descriptors = 48
        await start(pair.provider, pair.agent, consumer)

        async def answered(port: int) -> int:
            async with client(port) as one:
                return (await one.ask(form("d"))).status

        async def served() -> bool:
            try:
                async with client(consumer.port) as one:
                    return is_hash(await one.ask(form("c")), "c")
            except (OSError, EOFError):
                return False

        await until(served, 8.0)
        async with client(consumer.port) as inside:
            assert is_hash(await inside.ask(form("a")), "a")
            flood = [socket.socket() for _ in range(150)]
            for each in flood:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", victim.port))
            await asyncio.sleep(0.1)
            before_s = victim.cpu_s()
            began_s = time.monotonic()
            while time.monotonic() - began_s < 0.8:
                assert is_hash(await inside.ask(form("b")), "b")
                await asyncio.sleep(0.05)
            # Spinning takes a processor whole; of the time that passed here, on any machine.
            assert victim.cpu_s() - before_s < 0.5 * (time.monotonic() - began_s), "it spins"
            for each in flood:
                each.close()
            assert await until(served, 8.0) < 3.0
            if victim is consumer:
                # Each is answered, by the hash or a refusal, however long it waits in the queue.
                answers = await asyncio.gather(*(answered(consumer.port) for _ in range(150)))
                assert set(answers) <= {200, 503}, answers
        await asyncio.gather(*(each.stop() for each in (consumer, pair.agent, pair.provider)))

    async def scenario() -> None:
        await asyncio.gather(poor("consumer"), poor("provider"))

    asyncio.run(scenario())


def test_strangers_on_the_mesh_port_are_let_go(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.faulty["twice"].agent
        for greeting in (
            b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
            bytes(64),
            b"\xff" * 64,
            b"\xda\xbb\xc6\0" + bytes(12),
            b"\x00\x00\x00\x10\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00WRNG" + bytes(12),
        ):
            async with client(agent.port) as stranger:
                stranger.send(greeting)
                async with asyncio.timeout(8):
                    try:
                        while await stranger.reader.read(1000):
                            pass
                    except ConnectionResetError:
                        pass
        assert await agent.metric("dragoman_provider_sessions") == 3, "the consumers' agents"

    asyncio.run(scenario())


def test_an_agent_near_its_memory_bound_sheds_and_recovers(mesh: Mesh) -> None:
    async def scenario() -> None:
        bound_mb = mesh.hasty.resident_kib() * 14 // 10 >> 10
        agent = mesh.chain.consumer_agent("bounded", "--memory-mib-max", str(bound_mb))
        await agent.start()
        await agent.settled(1, "slow")
        slow = "x-dragoman-group: slow"
        text = "x" * (1 << 20)

        async def served() -> bool:
            async with client(agent.port) as one:
                return is_hash(await one.ask(form("b")), "b")

        async with AsyncExitStack() as stack:
            crowd = [await stack.enter_async_context(client(agent.port)) for _ in range(60)]
            for each in crowd:
                # Part of a body: it is held as long as the client takes.
                each.send(form(text, slow)[:-1])

            # What is half there leaves small calls their room.
            await until(served, 5.0)
            for each in crowd:
                each.send(form(text, slow)[-1:])
            answers = [await each.response() for each in crowd]
            assert all(is_hash(answer, text) or answer.status == 503 for answer in answers)
            assert any(answer.status == 503 for answer in answers)

        await until(served, 5.0)
        assert await agent.stop() == 0

    asyncio.run(scenario())
