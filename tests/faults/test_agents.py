"""The agents as programs: how they start, refuse to, run short, lose workers and stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from dragoman import rpc
from dragoman.demo.javahash import java_hash
from dragoman.errors import DragomanError, NotFoundError
from tests.faults.chain import INTERFACE, Chain, Pair, Program, chain, start
from tests.faults.conftest import Mesh
from tests.faults.http import client, form, form_body, is_hash
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until

PROVIDER = ("--interface", INTERFACE)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


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


class WorkerPools:
    """Agents of two workers each, on an etcd of their own."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.provider = chain.provider("provider", "--delay-ms", "20", "--limit", "60")
        self.agent = chain.provider_agent(
            "agent",
            self.provider,
            "--limit",
            "60",
            "--workers",
            "2",
            "--lease-ttl-s",
            "2",
            "--listen",
            f"127.0.0.1:{pair_of_ports()}",
        )
        self.consumer = chain.consumer_agent("consumer", "--workers", "2")

    async def workers(self, program: Program) -> list[int]:
        """The pids of those that are ready."""
        workers = (await program.status())["workers"]
        return [each["pid"] for each in workers if each["not_ready"] is None]


def pair_of_ports() -> int:
    """A port that is free, as is the next."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports in a row")


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPools]:
    with chain(tmp_path_factory.mktemp("pools")) as made:
        pools = WorkerPools(made)

        async def begin() -> None:
            await made.etcd.start()
            await start(pools.provider, pools.agent, pools.consumer)
            await until(lambda: whole(pools), 15.0)

        asyncio.run(begin())
        yield pools


async def whole(pools: WorkerPools) -> bool:
    services = await pools.consumer.services()
    endpoints = [each["state"] for service in services for each in service["endpoints"]]
    return (
        len(await pools.workers(pools.consumer)) == 2
        and len(await pools.workers(pools.agent)) == 2
        and endpoints == ["ready"] * 4
    )


def test_two_workers_share_the_work(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(400)
            assert set(await callers.stop()) == {"ok"}
        for worker in (await pools.consumer.status())["workers"]:
            (service,) = worker["services"]
            assert service["requests"] > 0
            assert all(each["requests"] > 0 for each in service["endpoints"])

    asyncio.run(scenario())


def test_a_consumers_worker_that_is_killed_is_replaced(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(200)
            victim = (await pools.workers(pools.consumer))[0]
            os.kill(victim, signal.SIGKILL)
            await callers.answered(200)
            await until(lambda: whole(pools), 15.0)
            assert victim not in await pools.workers(pools.consumer)
            await callers.answered(200)
            outcomes = await callers.stop()
            assert set(outcomes) == {"ok", "lost"}
            assert outcomes["lost"] <= 40, "at most a request for each connection it had"
            assert (await pools.consumer.metric("dragoman_worker_restarts_total")) == 1

    asyncio.run(scenario())


def test_a_providers_worker_that_is_killed_is_replaced(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(200)
            victim = (await pools.workers(pools.agent))[1]
            os.kill(victim, signal.SIGKILL)
            await callers.answered(200)
            await until(lambda: whole(pools), 15.0)
            failed = callers.failed
            await callers.answered(200)
            await callers.stop()
            assert set(failed) <= {"502 upstream-lost"}
            assert failed.total() <= 30, "a worker's share of the limit"
            assert callers.failed == failed

    asyncio.run(scenario())


def test_a_hang_up_ends_neither_supervisor_nor_workers(pools: WorkerPools) -> None:
    async def scenario() -> None:
        workers = await pools.workers(pools.consumer) + await pools.workers(pools.agent)
        said = [hang_ups(each) for each in (pools.consumer, pools.agent)]
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(200)
            for pid in (*workers, pools.consumer.pid, pools.agent.pid):
                os.kill(pid, signal.SIGHUP)
            for each, before in zip((pools.consumer, pools.agent), said, strict=True):
                await until(lambda each=each, n=before: hang_ups(each) == n + 3, 30.0)
            await callers.answered(200)
            assert set(await callers.stop()) == {"ok"}
        assert workers == await pools.workers(pools.consumer) + await pools.workers(pools.agent)

    asyncio.run(scenario())


def hang_ups(program: Program) -> int:
    """How many SIGHUPs it says it has had: one by each of its processes."""
    return program.text().count("SIGHUP ignored")


def test_both_pools_told_to_stop_fail_nobody(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            asked = []
            for i in range(20):
                one = await stack.enter_async_context(client(pools.consumer.port))
                one.send(form(str(i)))
                asked.append(one)
            await asyncio.sleep(0.005)
            began_s = time.monotonic()
            pools.consumer.signal(signal.SIGTERM)
            for i, one in enumerate(asked):
                assert is_hash(await one.response(), str(i))
            assert await pools.consumer.ended() == 0
            assert await pools.agent.stop() == 0
            assert time.monotonic() - began_s < 5.0 * load_factor()

    asyncio.run(scenario())


async def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        async with client(port):
            return False
    except OSError:
        return True


def test_a_consumer_agent_told_to_stop_answers_what_is_in_flight(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.chain.consumer_agent("stopping")
        await agent.start()
        await agent.settled(1, "slow")
        slow = "x-dragoman-group: slow"
        async with (
            client(agent.port) as one,
            client(agent.port) as pipelined,
            client(agent.port) as idle,
            client(agent.port) as partial,
        ):
            assert is_hash(await idle.ask(form("a")), "a")
            one.send(form("b", slow))
            pipelined.send(form("c", slow) + form("d", slow))
            partial.send(form("e", slow)[:-1])

            async def there() -> bool:
                return await agent.metric("dragoman_http_in_progress") == 3

            await until(there)
            began_s = time.monotonic()
            agent.signal(signal.SIGTERM)
            await until(lambda: refuses(agent.port))
            partial.send(form("e", slow)[-1:])
            answers = [await one.response(), await pipelined.response()]
            answers += [await pipelined.response(), await partial.response()]
            for text, answer in zip("bcde", answers, strict=True):
                assert is_hash(answer, text)
            # Each connection's last response says so, and none before it.
            assert [answer.closes for answer in answers] == [True, False, True, True]
            # This one was idle: its client may have sent before it could know.
            answer = await idle.ask(form("f"))
            assert is_hash(answer, "f") and answer.closes
            for each in (one, pipelined, partial, idle):
                await each.ends()
            assert agent.runs
        # Its clients have closed: nothing keeps it.
        assert await agent.ended() == 0
        assert time.monotonic() - began_s < 2.0 * load_factor()

    asyncio.run(scenario())


def test_a_draining_consumer_agent_lets_silent_connections_go(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.chain.consumer_agent("leaving", "--drain-ms", "2000")
        await agent.start()
        await agent.settled(2)
        async with client(agent.port) as idle, client(agent.port) as half:
            assert is_hash(await idle.ask(form("a")), "a")
            half.send(form("b")[:-1])

            async def there() -> bool:
                return await agent.metric("dragoman_http_connections") == 2

            await until(there)
            began_s = time.monotonic()
            agent.signal(signal.SIGTERM)
            await idle.ends()
            assert time.monotonic() - began_s > 0.4
            answer = await half.response()
            assert (answer.status, answer.error, answer.closes) == (503, "unavailable", True)
            await half.ends()
            # Neither client closes its end: that keeps it no longer than the drain.
            assert await agent.ended() == 0

    asyncio.run(scenario())


def test_a_consumer_agent_told_to_stop_fails_no_keep_alive_client(mesh: Mesh) -> None:
    """Clients with connection pools: what they have sent is answered, and no connection is cut
    under them. That nobody listens any more they are told by a refusal."""

    async def scenario() -> None:
        ended: Counter[str] = Counter()

        async def caller(session: aiohttp.ClientSession, url: str) -> None:
            while True:
                try:
                    async with session.post(url, data=form_body("x"), headers=FORM) as response:
                        assert await response.text() == str(java_hash("x"))
                        ended[str(response.status)] += 1
                except aiohttp.ClientConnectorError:
                    return
                except (aiohttp.ClientError, OSError) as error:
                    ended[f"{type(error).__name__}: {error}"] += 1

        for _ in range(2):
            agent = mesh.chain.consumer_agent("pooled")
            await agent.start()
            await agent.settled(2)
            url = f"http://127.0.0.1:{agent.port}/"
            connector = aiohttp.TCPConnector(limit=64)
            async with aiohttp.ClientSession(connector=connector) as session:
                callers = [asyncio.ensure_future(caller(session, url)) for _ in range(64)]
                await until(lambda: ended["200"] > 500, 15.0)
                agent.signal(signal.SIGTERM)
                await asyncio.gather(*callers)
            assert await agent.ended() == 0
            assert set(ended) == {"200"}, ended
            ended.clear()

    asyncio.run(scenario())


def test_a_second_signal_stops_at_once(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.chain.consumer_agent("hurried")
        await agent.start()
        await agent.settled(1, "slow")
        async with client(agent.port) as one:
            one.send(form("x", "x-dragoman-group: slow"))
            await asyncio.sleep(0.05)
            agent.signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
            agent.signal(signal.SIGTERM)
            assert await agent.ended(0.3) == 1

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


def test_a_draining_provider_agent_takes_nobody_back(mesh: Mesh) -> None:
    """Without a registry to say that it is gone: an idle caller lets go and would come back while
    another's slow call keeps the agent alive."""

    async def scenario() -> None:
        draining = mesh.slow.agent
        addresses = ",".join(f"127.0.0.1:{each.port}" for each in (draining, mesh.first.agent))
        consumers = [
            mesh.chain.consumer_agent(f"static-consumer{i}", registry=f"static://{addresses}")
            for i in range(2)
        ]
        await start(*consumers)
        async with load(consumers[0].port, 8) as busy:
            await busy.answered(8)
            began_s = time.monotonic()
            stopping = asyncio.ensure_future(draining.stop())
            # The second consumer's agent has nothing there: it lets go at once, and would be back.
            await asyncio.sleep(0.2)
            async with load(consumers[1].port, 8) as later:
                await later.answered(32)
                assert set(await later.stop()) == {"ok"}
            assert await stopping == 0
            assert time.monotonic() - began_s < 3.0 * load_factor()
            assert set(await busy.stop()) == {"ok"}
        for program in consumers:
            program.kill()
        await draining.start()
        await mesh.agent.settled(1, "slow")

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


@pytest.mark.slow
def test_a_provider_agent_with_a_hung_provider_still_ends_within_10_s(mesh: Mesh) -> None:
    async def scenario() -> None:
        pair = mesh.chain.pair("frozen", (), ("--group", "frozen"))
        await pair.start()
        await mesh.agent.settled(1, "frozen")
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(form("a", "x-dragoman-group: frozen")), "a")
            pair.provider.pause()
            one.send(form("b", "x-dragoman-group: frozen"))
            await asyncio.sleep(0.2)
            began_s = time.monotonic()
            pair.agent.signal(signal.SIGTERM)
            assert (await one.response()).status == 504
            await pair.agent.ended(12.0)
            assert time.monotonic() - began_s < 10.0 * load_factor()
        pair.provider.kill()

    asyncio.run(scenario())
