"""Servers that drain, die and come back; clients that come and go by the thousand."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import weakref
from contextlib import ExitStack
from pathlib import Path

import pytest

from dragoman import rpc
from dragoman.errors import BatchError, ConnectError, DragomanError, LinkLostError
from tests.rpc.peers import RUNNERS, rss_bytes, server_process, settle
from tests.waiting import until

ANY = "127.0.0.1:0"


async def echo(body: bytes) -> bytes:
    return body


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_killed_server_ends_each_call_in_flight_once_and_nobody_elses(runner: str) -> None:
    async def work() -> None:
        with server_process() as (victim, address), server_process() as (_, other_address):
            client = await rpc.connect(address, calls_max=1000)
            strict = await rpc.connect(address, reconnect=False)
            other = await rpc.connect(other_address)
            ends: list[DragomanError | bytes | None] = []
            calls = [client.call("hang", order_key="k") for _ in range(20)]
            batch = client.call_many("hang", [b"x"] * 2000)
            for _ in range(20):
                strict.call_soon("hang", b"", lambda reply, error: ends.append(error or reply))
            others = [other.call("slow", b"0.5") for _ in range(50)]
            timed = client.call("echo", b"x", timeout_ms=400)
            await until(lambda: client.calls == 1000)
            await asyncio.sleep(0.1)
            os.kill(victim.pid, signal.SIGKILL)
            for call in calls:
                with pytest.raises(LinkLostError) as caught:
                    await call
                assert not caught.value.retry_safe
            await until(lambda: len(ends) == 20)
            assert all(isinstance(end, LinkLostError) and not end.retry_safe for end in ends)
            assert strict.closed
            with pytest.raises(DragomanError):
                await strict.call("echo")
            # What had not been sent waits for the server to come back: until its time, or for ever.
            with pytest.raises(DragomanError):
                await timed
            assert not batch.done()
            assert len(set(await asyncio.gather(*others))) == 1
            await client.close(drain_ms=0)
            with pytest.raises(BatchError) as many:
                await batch
            assert len(many.value.errors) == 2000
            assert sum(not error.retry_safe for error in many.value.errors.values()) <= 980
            await settle(client, strict, other)
            await other.close()
            await strict.close()

    RUNNERS[runner](work())


def test_a_server_that_comes_back_is_found_and_serves_those_who_waited(tmp_path: Path) -> None:
    async def work() -> None:
        # A path is nobody else's meanwhile, as a port may be.
        address = f"unix:{tmp_path}/socket"
        server = await rpc.serve(echo, address)
        async with (
            await rpc.connect(address) as client,
            await rpc.connect(address, on_full="fail") as hasty,
        ):
            assert await client.call("m", b"1") == b"1"
            await server.close()
            await until(lambda: not client.statistics().connected)
            await until(lambda: not hasty.statistics().connected)
            waiting = client.call("m", b"2")
            with pytest.raises(ConnectError) as caught:
                await hasty.call("m")
            assert caught.value.retry_safe
            await asyncio.sleep(0.2)
            async with await rpc.serve(echo, address):
                assert await waiting == b"2"
                await until(lambda: hasty.statistics().connected)
                assert await hasty.call("m", b"3") == b"3"
                assert client.statistics().connections == 2

    asyncio.run(work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_no_call_fails_while_servers_take_each_others_place_under_load(runner: str) -> None:
    async def work() -> None:
        served: set[bytes] = set()
        stopping = False

        async def load(client: rpc.Client) -> int:
            calls = 0
            while not stopping:
                served.add(await client.call("slow", b"0.01"))
                served.update(await client.call_many("slow", [b"0.01", b"0.02"] * 5))
                calls += 11
            return calls

        with ExitStack() as stack:
            process, address = stack.enter_context(server_process())
            clients = [await rpc.connect(address) for _ in range(4)]
            loads = [asyncio.ensure_future(load(client)) for client in clients for _ in range(10)]
            for generation in range(2):
                await until(lambda seen=generation: len(served) > seen)  # type: ignore[misc]
                await asyncio.sleep(0.1)
                successor, _ = stack.enter_context(server_process(address))
                assert process.stdin is not None
                process.stdin.close()
                assert await asyncio.to_thread(process.wait, 10) == 0
                process = successor
            await until(lambda: len(served) == 3)
            stopping = True
            assert sum(await asyncio.gather(*loads)) > 500
            await settle(*clients)
            assert all(client.statistics().failures == 0 for client in clients)
            assert all(client.statistics().connections == 3 for client in clients)
            for client in clients:
                await client.close()

    RUNNERS[runner](work())


def test_what_has_ended_is_freed() -> None:
    async def work() -> None:
        async def hang(body: bytes) -> bytes:
            await asyncio.get_running_loop().create_future()
            return body

        server = await rpc.serve({"echo": echo, "hang": hang}, ANY, limit=20)
        client = await rpc.connect(str(server.address))
        watched: list[weakref.ref[object]] = []
        futures = [client.call("echo", order_key="k") for _ in range(10)]
        futures += [client.call("hang", timeout_ms=50) for _ in range(30)]
        many = [
            client.call_many("hang", [b"x"] * 10, timeout_ms=50),
            client.call_many("echo", [b"y"]),
        ]
        await asyncio.gather(*futures, *many, return_exceptions=True)
        cancelled = client.call("hang")
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await settle(client, server)
        watched += [weakref.ref(future) for future in (*futures, *many, cancelled)]
        del futures, many, cancelled
        gc.collect()
        assert not [one for one in watched if one() is not None]
        await client.close()
        await server.close()
        del client, server
        await asyncio.sleep(0.01)
        gc.collect()
        assert living() == before

    def living() -> int:
        gc.collect()
        kinds = ("Client", "ClientSession", "ServerSession", "Server", "Dispatcher", "Work", "Link")
        return sum(type(one).__name__ in kinds for one in gc.get_objects())

    before = living()
    asyncio.run(work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_thousand_clients_that_came_and_went_leave_nothing(runner: str) -> None:
    async def work() -> None:
        async with await rpc.serve(echo, ANY) as server:
            address = str(server.address)

            async def visit(i: int) -> None:
                client = await rpc.connect(address)
                assert await client.call("m", b"%d" % i) == b"%d" % i
                if i % 3:
                    await client.close()
                else:
                    client.notify("m", b"x")
                    await client.close(drain_ms=0)

            def objects() -> int:
                gc.collect()
                return len(gc.get_objects())

            for i in range(100):
                await visit(i)
            await asyncio.sleep(0.05)
            files, before, bytes_before = len(os.listdir("/proc/self/fd")), objects(), rss_bytes()
            for i in range(1000):
                await visit(i)
            await until(lambda: server.statistics().clients == 0)
            await asyncio.sleep(0.05)
            assert len(os.listdir("/proc/self/fd")) <= files
            assert objects() <= before + 100
            assert rss_bytes() - bytes_before < 4 << 20
            await settle(server)
            assert server.statistics().connections == 1100

    RUNNERS[runner](work())
