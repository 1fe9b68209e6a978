"""The supervisor and its workers: started, merged, restarted, drained, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from dragoman.agent.config import ConsumerConfig
from dragoman.agent.supervisor import Supervisor
from dragoman.agent.worker_pool import RestartPolicy
from dragoman.errors import DragomanError, UsageError
from tests.load_factor import load_factor
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = "tests.agent.entries"
QUICK = RestartPolicy(pause_min_s=0.01, pause_max_s=0.02, deaths_max=3)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes import this test's entries too."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT}")


def config(workers: int = 1, **fields: Any) -> ConsumerConfig:
    return ConsumerConfig(
        listen=f"127.0.0.1:{free_port()}",
        registry="memory://x",
        workers=workers,
        admin="127.0.0.1:0",
        log_level="error",
        **fields,
    )


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def running(
    entry: str, config: ConsumerConfig, policy: RestartPolicy | None = None
) -> AsyncIterator[tuple[Supervisor, asyncio.Task[int]]]:
    supervisor = Supervisor(f"{ENTRIES}:{entry}", config, program="test", policy=policy)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor, task
    finally:
        supervisor.stop()
        supervisor.stop()
        with suppress(DragomanError):
            await task


async def ask(port: int, command: str = "") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{command}\n".encode())
    answer = (await reader.read()).decode().strip()
    writer.close()
    return answer


async def page(supervisor: Supervisor, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{supervisor.admin_port}{path}") as reply,
    ):
        return reply.status, await reply.text()


def port_of(supervisor: Supervisor) -> int:
    return int(supervisor.addresses[0].rpartition(":")[2])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_agent_serves_reports_and_drains(workers: int) -> None:
    async def scenario() -> None:
        async with running("serve", config(workers)) as (supervisor, task):
            await until(lambda: supervisor.not_ready() is None, 10.0)
            await until(lambda: supervisor._pool and supervisor._pool.all_ready.is_set(), 10.0)
            pids = {(await ask(port_of(supervisor))).split()[0] for _ in range(40)}
            assert len(pids) == workers
            assert (str(os.getpid()) in pids) == (workers == 1)
            assert await page(supervisor, "/healthz") == (200, "ok\n")
            assert await page(supervisor, "/readyz") == (200, "ready\n")
            _, metrics = await page(supervisor, "/metrics")
            assert "dragoman_test_requests_total 40.0" in metrics
            assert f"dragoman_test_workers {workers}.0" in metrics
            assert "dragoman_test_seconds_count 40.0" in metrics
            assert "dragoman_resident_memory_bytes" in metrics
            status = json.loads((await page(supervisor, "/status"))[1])
            assert sum(each["requests"] for each in status["workers"]) == 40
            assert status["not_ready"] is None
            supervisor.stop()
            assert supervisor.not_ready() == "draining"
            assert await task == 0

    uvloop.run(scenario())


def test_a_worker_that_dies_is_started_again_and_its_counts_are_kept() -> None:
    async def scenario() -> None:
        async with running("serve", config(2), QUICK) as (supervisor, _):
            pool = supervisor._pool
            await until(lambda: supervisor._pool and supervisor._pool.all_ready.is_set(), 10.0)
            pool = supervisor._pool
            assert pool is not None
            for _ in range(20):
                await ask(port_of(supervisor))
            assert (await supervisor.metrics()).get("dragoman_test_requests_total") == 20
            before = {each["pid"] for each in await pool.status()}
            with suppress(OSError):
                await ask(port_of(supervisor), "die")

            async def others() -> set[int]:
                return {each["pid"] for each in await pool.status() if not each["not_ready"]}

            async with asyncio.timeout(10):
                while len(after := await others()) < 2 or after == before:
                    await asyncio.sleep(0.02)
            assert len(after & before) == 1
            snapshot = await supervisor.metrics()
            assert snapshot.get("dragoman_test_requests_total") == 20
            assert snapshot.get("dragoman_test_workers") == 2
            assert snapshot.get("dragoman_worker_restarts_total") == 1
            await ask(port_of(supervisor))

    uvloop.run(scenario())


def test_workers_that_keep_dying_end_the_agent() -> None:
    async def scenario() -> None:
        supervisor = Supervisor(f"{ENTRIES}:crash", config(2), policy=QUICK)
        with pytest.raises(DragomanError, match=r"4 workers died within 60 s: giving up"):
            await supervisor.run()

    uvloop.run(scenario())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_cannot_start_ends_the_agent_with_its_error(workers: int) -> None:
    async def scenario() -> None:
        with pytest.raises(UsageError, match=r"^cannot serve as configured$"):
            await Supervisor(f"{ENTRIES}:refuse", config(workers)).run()

    uvloop.run(scenario())


def test_a_bug_in_the_only_worker_is_one_line() -> None:
    async def scenario() -> None:
        with pytest.raises(
            DragomanError,
            match=r"^the worker failed: ValueError \(entries.py:\d+ in raise_later ",
        ):
            await Supervisor(f"{ENTRIES}:raise_later", config()).run()

    uvloop.run(scenario())


@pytest.mark.parametrize("workers", [1, 2])
def test_the_reason_of_not_being_ready_is_shown(workers: int) -> None:
    async def scenario() -> None:
        async with running("never_ready", config(workers)) as (supervisor, _):
            await until(lambda: supervisor.not_ready() == "waiting for the registry", 10.0)
            assert await page(supervisor, "/readyz") == (503, "waiting for the registry\n")

    uvloop.run(scenario())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_does_not_stop_is_killed_after_its_time(workers: int) -> None:
    async def scenario() -> None:
        async with running("ignore_stop", config(workers, drain_ms=1)) as (supervisor, task):
            await until(lambda: supervisor._pool and supervisor._pool.all_ready.is_set(), 10.0)
            supervisor.stop()
            assert await task == 1

    uvloop.run(scenario())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_does_not_wait(workers: int) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with running("ignore_stop", config(workers)) as (supervisor, task):
            await until(lambda: supervisor._pool and supervisor._pool.all_ready.is_set(), 10.0)
            began_s = loop.time()
            supervisor.stop()
            await asyncio.sleep(0.05)
            assert not task.done()
            supervisor.stop()
            assert await task == 1
            assert loop.time() - began_s < 3 * load_factor()

    uvloop.run(scenario())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_one_clear_line(workers: int) -> None:
    async def scenario(taken: ConsumerConfig) -> None:
        with pytest.raises(UsageError, match=r"cannot listen on .*: the port is in use"):
            await Supervisor(f"{ENTRIES}:serve", taken).run()

    taken = config(workers)
    with socket.socket() as sock:
        # Even a listener that would share its port is not joined by accident.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", int(taken.listen.rpartition(":")[2])))
        sock.listen()
        uvloop.run(scenario(taken))


def test_an_admin_port_in_use_is_one_clear_line() -> None:
    async def scenario(port: int) -> None:
        taken = ConsumerConfig(registry="memory://x", admin=f"127.0.0.1:{port}")
        with pytest.raises(UsageError, match=r"^admin address 127.0.0.1:\d+: the port is in use$"):
            await Supervisor(f"{ENTRIES}:serve", taken).run()

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        uvloop.run(scenario(sock.getsockname()[1]))


def test_workers_share_a_free_port_that_was_asked_for_as_0() -> None:
    async def scenario() -> None:
        free = ConsumerConfig(
            listen="127.0.0.1:0", registry="memory://x", workers=2, log_level="error"
        )
        async with running("serve", free) as (supervisor, _):
            await until(lambda: supervisor._pool and supervisor._pool.all_ready.is_set(), 10.0)
            assert len(supervisor.addresses) == 1
            assert port_of(supervisor) > 0
            assert {(await ask(port_of(supervisor))).split()[1] for _ in range(40)} == {"0", "1"}

    uvloop.run(scenario())


SUPERVISE = """
import sys, uvloop
from dragoman.agent.config import ConsumerConfig
from dragoman.agent.supervisor import Supervisor
async def main():
    config = ConsumerConfig(listen=sys.argv[1], registry="memory://x", workers=2)
    return await Supervisor("tests.agent.entries:serve", config).run()
sys.exit(uvloop.run(main()))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_supervisor(number: signal.Signals) -> None:
    async def scenario() -> None:
        port = free_port()
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", SUPERVISE, f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL
        )
        try:
            pids: set[int] = set()
            async with asyncio.timeout(15):
                while len(pids) < 2:
                    with suppress(OSError, IndexError):
                        pids.add(int((await ask(port)).split()[0]))
                    await asyncio.sleep(0.01)
            process.send_signal(number)
            assert process.wait(10) == (0 if number is signal.SIGTERM else -9)
            await until(lambda: not any(alive(pid) for pid in pids), 10.0)
        finally:
            process.kill()
            process.wait()

    uvloop.run(scenario())


def alive(pid: int) -> bool:
    """Whether it still runs; a zombie left to init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
