"""Clients that are slow, leave, ask for much or do not read: they get theirs, and others too."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from dragoman.demo.javahash import java_hash
from tests.faults.conftest import Mesh
from tests.faults.http import Client, client, form, is_hash
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until

SLOW = "x-dragoman-group: slow"


async def idle(mesh: Mesh) -> bool:
    return await mesh.agent.metric("dragoman_http_in_progress") == 0


def test_a_request_of_single_bytes_is_served(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            for byte in form("abc"):
                one.send(bytes((byte,)))
                await asyncio.sleep(0.0002)
            assert is_hash(await one.response(), "abc")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "part",
    [b"P", b"POST / HTTP/1.1\r\n", form("abc")[:-1], form("abc") + form("abc")[:30]],
    ids=["a letter", "a line", "all but a byte", "a second request"],
)
def test_a_partial_request_gets_408_at_its_deadline(mesh: Mesh, part: bytes) -> None:
    async def scenario() -> None:
        async with client(mesh.hasty.port) as one:
            began_s = time.monotonic()
            one.send(part)
            if part.startswith(form("abc")):
                assert is_hash(await one.response(), "abc")
            answer = await one.response()
            assert (answer.status, answer.error, answer.closes) == (408, "request-timeout", True)
            assert 0.35 < time.monotonic() - began_s < 2.0 * load_factor()
            await one.ends()

    asyncio.run(scenario())


def test_a_client_that_trickles_gets_408_all_the_same(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.hasty.port) as one:
            waiting = asyncio.ensure_future(one.response())
            for byte in form("x" * 500):
                if waiting.done():
                    break
                one.send(bytes((byte,)))
                await asyncio.sleep(0.02)
            assert (await waiting).status == 408
            await one.ends()

    asyncio.run(scenario())


def test_idle_connections_are_closed_silently(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.hasty.port) as fresh, client(mesh.hasty.port) as used:
            began_s = time.monotonic()
            assert is_hash(await used.ask(form("a")), "a")
            await asyncio.gather(fresh.ends(), used.ends())
            assert 0.45 < time.monotonic() - began_s < 2.0 * load_factor()

    asyncio.run(scenario())


def test_a_connection_that_waits_for_its_answer_is_not_idle(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.hasty.port) as one:
            # Two of 400 ms in turn on one provider place each; the idle limit is 500 ms.
            for text in ("a", "b"):
                assert is_hash(await one.ask(form(text, SLOW)), text)
                await asyncio.sleep(0.2)

    asyncio.run(scenario())


def test_a_client_that_has_closed_its_half_gets_its_answers(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            one.send(b"".join(form(str(i)) for i in range(40)))
            one.writer.write_eof()
            for i in range(40):
                assert is_hash(await one.response(), str(i))
            await one.ends()
        async with client(mesh.agent.port) as one:
            one.send(form("a")[:50])
            one.writer.write_eof()
            await one.ends()

    asyncio.run(scenario())


def test_more_requests_than_the_cap_are_answered_in_order(mesh: Mesh) -> None:
    """Fast and slow ones mixed: the provider answers them in another order."""

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            for i in range(200):
                one.send(form(str(i), SLOW) if i % 90 == 5 else form(str(i)))
            for i in range(200):
                assert is_hash(await one.response(), str(i))
            await until(lambda: idle(mesh))

    asyncio.run(scenario())


def test_errors_keep_their_place_among_pipelined_answers(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            group = "x-dragoman-group: nobody"
            one.send(form("a", SLOW) + form("b", group) + form("c") + b"GET / HTTP/1.1\r\n")
            one.send(b"Host: t\r\n\r\n" + form("d", "x-dragoman-timeout-ms: 1", SLOW) + form("e"))
            assert is_hash(await one.response(), "a")
            assert (await one.response()).status == 404
            assert is_hash(await one.response(), "c")
            assert (await one.response()).status == 405
            assert (await one.response()).status == 504
            assert is_hash(await one.response(), "e")

    asyncio.run(scenario())


@pytest.mark.parametrize("by", ["reset", "close"])
def test_clients_that_leave_free_their_places(mesh: Mesh, by: str) -> None:
    """With requests in progress and pipelined; their late replies go nowhere.

    A RST withdraws them at once. A FIN may come from a client that still listens: only writing the
    first answer shows that it does not.
    """

    async def scenario() -> None:
        leaving = []
        for i in range(30):
            manager = client(mesh.agent.port)
            one = await manager.__aenter__()
            one.send(form(str(i), SLOW) + form("next", SLOW))
            leaving.append((manager, one))

        async def arrived() -> bool:
            return await mesh.agent.metric("dragoman_http_in_progress") >= 60

        await until(arrived)
        abandoned = await mesh.agent.metric("dragoman_http_abandoned_total")
        for manager, one in leaving:
            if by == "reset":
                one.reset()
            await manager.__aexit__(None, None, None)
        await until(lambda: idle(mesh))
        if by == "reset":
            # Abandoned, and not answered: the provider takes 400 ms.
            now_abandoned = await mesh.agent.metric("dragoman_http_abandoned_total")
            assert now_abandoned == abandoned + 60
        # Their replies come to nobody, and others are served.
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(form("z", SLOW)), "z")
        await mesh.agent.settled(1, "slow")

    asyncio.run(scenario())


def test_connections_over_the_limit_get_503_and_the_others_stay(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.narrow.port) as a, client(mesh.narrow.port) as b:
            async with client(mesh.narrow.port) as c, client(mesh.narrow.port) as d:
                for one in (a, b, c, d):
                    assert is_hash(await one.ask(form("in")), "in")
                async with client(mesh.narrow.port) as fifth:
                    answer = await fifth.ask(form("out"))
                    assert (answer.status, answer.error) == (503, "overload")
                    assert answer.headers["retry-after"] == "1"
                    assert answer.closes
                    await fifth.ends()
                for one in (a, b, c, d):
                    assert is_hash(await one.ask(form("still in")), "still in")
                # Whoever runs the agent is told, once for many.
                for _ in range(20):
                    async with client(mesh.narrow.port) as another:
                        await another.response()
                line = "a request was refused here: overload: this agent has too many connections"
                assert 1 <= mesh.narrow.text().count(line) < 20

            async def room() -> bool:
                return await mesh.narrow.metric("dragoman_http_connections") <= 2

            await until(room)
            async with client(mesh.narrow.port) as one:
                assert is_hash(await one.ask(form("in again")), "in again")

    asyncio.run(scenario())


def test_overload_is_refused_at_once_with_retry_after(mesh: Mesh) -> None:
    """Two places of 50 ms, eight that may wait: 48 requests on three connections are too many."""

    async def scenario() -> None:
        async def ask(one: Client) -> tuple[int, int]:
            for i in range(16):
                one.send(form(str(i), "x-dragoman-group: tiny"))
            served = refused = 0
            for i in range(16):
                answer = await one.response()
                if answer.status == 200:
                    assert is_hash(answer, str(i))
                    served += 1
                else:
                    assert (answer.status, answer.error) == (503, "overload")
                    assert answer.headers["retry-after"] == "1"
                    refused += 1
            return served, refused

        async with (
            client(mesh.narrow.port) as a,
            client(mesh.narrow.port) as b,
            client(mesh.narrow.port) as c,
        ):
            results = await asyncio.gather(ask(a), ask(b), ask(c))
            assert sum(served for served, _ in results) >= 6
            assert sum(refused for _, refused in results) >= 30
            answer = await a.ask(form("after", "x-dragoman-group: tiny"))
            assert is_hash(answer, "after")

    asyncio.run(scenario())


def test_slow_readers_neither_grow_memory_nor_disturb_others(mesh: Mesh) -> None:
    """Ten clients ask for 64 MiB each and do not read."""
    text = "x" * (1 << 20)

    async def scenario() -> None:
        managers = [client(mesh.agent.port, receive_bytes=4096) for _ in range(10)]
        slow = [await manager.__aenter__() for manager in managers]
        before_kib = mesh.agent.resident_kib()
        writers = [asyncio.ensure_future(_send_all(one, text, 64)) for one in slow]
        await asyncio.sleep(0.5)
        async with load(mesh.agent.port, 8) as others:
            await others.run(0.7)
            outcomes = await others.stop()
        assert set(outcomes) == {"ok"}
        assert others.slowest_s < 1.0 * load_factor()
        grown_kib = mesh.agent.resident_kib() - before_kib
        assert grown_kib < 10 * 24 * 1024, f"{grown_kib} KiB for ten clients that do not read"
        # One of them reads after all, and finds its answers whole and in order.
        for _ in range(3):
            answer = await slow[0].response()
            assert answer.body == str(java_hash(text)).encode() or answer.body == text.encode()
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        for manager in managers:
            await manager.__aexit__(None, None, None)
        await until(lambda: idle(mesh))

    asyncio.run(scenario())


async def _send_all(one: Client, text: str, count: int) -> None:
    for _ in range(count):
        one.send(form(text, method="echo"))
        await one.writer.drain()


def test_a_storm_of_connections_closed_while_connecting_does_no_harm(mesh: Mesh) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with load(mesh.agent.port, 8) as others:
            for i in range(300):
                sock = socket.socket()
                sock.setblocking(False)
                connecting = asyncio.ensure_future(
                    loop.sock_connect(sock, ("127.0.0.1", mesh.agent.port))
                )
                if i % 3:
                    await connecting
                if i % 3 == 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connecting.cancel()
                sock.close()
                await asyncio.sleep(0)
            outcomes = await others.stop()
        assert set(outcomes) == {"ok"}

        async def none_left() -> bool:
            return await mesh.agent.metric("dragoman_http_connections") == 0

        await until(none_left)

    asyncio.run(scenario())
