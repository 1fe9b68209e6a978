"""The end of a synchronous client, its server or its process: calls end once, no thread stays."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import pytest

from dragoman import rpc
from tests.rpc.peers import server_process
from tests.rpc.threaded_server import served, slow
from tests.waiting import until_sync

pytestmark = pytest.mark.usefixtures("threads_end")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_killed_server_ends_each_call_under_way_once(kind: str, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()

    def work() -> None:
        try:
            client.call("hang", b"x")
        except rpc.DragomanError as error:
            outcomes[type(error).__name__] += 1
            assert not error.retry_safe

    address = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    with server_process(address) as (process, where), rpc.connect_sync(where) as client:
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        futures = [client.call_future("hang") for _ in range(100)]
        until_sync(lambda: client.statistics().calls == 116, 30.0)
        process.kill()
        for thread in threads:
            thread.join()
        assert {type(future.exception(5)) for future in futures} == {rpc.LinkLostError}
        assert outcomes == {"LinkLostError": 16}
        # Calls wait for the server to come back.
        with pytest.raises(rpc.DeadlineError):
            client.call("echo", b"", timeout_ms=50)
        figures = client.statistics()
        assert (figures.calls, figures.waiting, figures.connected) == (0, 0, False)
        with server_process(where) as (_, again):
            assert again == where
            assert client.call("echo", b"back", timeout_ms=10_000) == b"back"
            assert client.statistics().connections == 2


def test_closing_waits_for_what_is_under_way_and_fails_what_comes_later() -> None:
    async def later(body: bytes) -> bytes:
        await asyncio.sleep(0.1)
        return body

    with served({"later": later, "slow": slow}) as server:
        client = rpc.connect_sync(server.address)
        future = client.call_future("later", b"x")
        until_sync(lambda: client.statistics().calls == 1, 30.0)
        client.close()
        assert future.result(0) == b"x"
        client.close()
        assert client.closed
        for call in (
            lambda: client.call("later"),
            lambda: client.call_many("later", [b""]),
            lambda: client.call_future("later"),
            lambda: client.notify("later"),
            lambda: list(client.map("later", [b""])),
        ):
            with pytest.raises(rpc.LinkLostError, match="is closed") as caught:
                call()
            assert caught.value.retry_safe
        assert client.statistics().calls == 0

        impatient = rpc.connect_sync(server.address)
        waits = impatient.call_future("slow")
        until_sync(lambda: impatient.statistics().calls == 1, 30.0)
        impatient.close(drain_ms=20)
        assert type(waits.exception(0)) is rpc.LinkLostError


def test_every_call_of_many_threads_ends_when_the_client_is_closed_among_them() -> None:
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def work() -> None:
        while True:
            try:
                client.call("echo", b"x")
            except rpc.LinkLostError:
                with lock:
                    outcomes["lost"] += 1
                return

    for _ in range(10):
        with served() as server:
            client = rpc.connect_sync(server.address)
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            time.sleep(0.01)
            closers = [threading.Thread(target=client.close) for _ in range(3)]
            for thread in closers + threads:
                if thread in closers:
                    thread.start()
            for thread in closers + threads:
                thread.join(10)
                assert not thread.is_alive()
    assert outcomes == {"lost": 80}


def test_in_debug_mode_too_every_call_ends_when_the_client_is_closed_among_them() -> None:
    # There waking the loop runs Python code, in which other threads have their turn.
    script = """
import sys, threading
from dragoman import rpc
def work(client):
    try:
        while True:
            client.call("echo", b"x")
            client.call_many("echo", [b"x"] * 3)
    except (rpc.LinkLostError, rpc.BatchError):
        pass
sys.setswitchinterval(1e-6)
for _ in range(40):
    client = rpc.connect_sync(sys.argv[1])
    threads = [threading.Thread(target=work, args=(client,), daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    client.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
print("end")
"""
    with served() as server:
        run = subprocess.run(
            [sys.executable, "-X", "dev", "-c", script, str(server.address)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (run.returncode, run.stdout) == (0, "end\n"), run.stderr
        assert "Event loop is closed" not in run.stderr


def test_a_client_that_is_forgotten_ends_its_thread() -> None:
    with served() as server:
        client = rpc.connect_sync(server.address)
        assert client.call("echo", b"x") == b"x"
        gone = weakref.ref(client)
        with pytest.warns(ResourceWarning, match="unclosed <SyncClient"):
            del client
            gc.collect()
        assert gone() is None
        until_sync(lambda: server.statistics().clients == 0, 30.0)


def test_the_interpreter_ends_with_clients_open_and_calls_under_way() -> None:
    script = """
import sys, threading
from dragoman import rpc
client = rpc.connect_sync(sys.argv[1])
for _ in range(4):
    threading.Thread(target=lambda: client.call("slow"), daemon=True).start()
assert client.call("echo", b"x") == b"x"
future = client.call_future("slow")
print("end")
"""
    with served() as server:
        run = subprocess.run(
            [sys.executable, "-X", "dev", "-c", script, str(server.address)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (run.returncode, run.stdout) == (0, "end\n"), run.stderr
        assert "Fatal" not in run.stderr


def test_a_child_process_is_told_to_connect_anew() -> None:
    script = """
import os, sys
from dragoman import rpc
client = rpc.connect_sync(sys.argv[1])
assert client.call("echo", b"x") == b"x"
child = os.fork()
if child == 0:
    try:
        client.call("echo")
    except rpc.UsageError as error:
        assert "forked from: open it anew" in str(error)
    client.close()
    with rpc.connect_sync(sys.argv[1]) as own:
        assert own.call("echo", b"child") == b"child"
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert client.call("echo", b"parent") == b"parent"
client.close()
print("end")
"""
    with served() as server:
        run = subprocess.run(
            [sys.executable, "-c", script, str(server.address)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (run.returncode, run.stdout) == (0, "end\n"), run.stderr
