"""What is dropped without ``close`` is told as asyncio does: a ResourceWarning, and no noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rpc.peers import server_process

RUNS = {"asyncio": "asyncio.run", "uvloop": "uvloop.run"}
HEAD = """
import asyncio, gc, os, sys, uvloop
from dragoman import broker, cluster, dubbo, rpc
from dragoman.queue import QueueStore
AT = sys.argv[1]
TCP = "127.0.0.1:0"
@dubbo.service("com.example.Hello")
class Hello:
    async def hash(self, text: str) -> int: ...
"""
KINDS = {
    "rpc.connect(AT)": "<Client {at}, connected, 0 calls, 0 waiting>",
    "rpc.serve({}, TCP)": "<Server 127.0.0.1:",
    "cluster.connect('s', endpoints=[AT])": "<Pool s, 1 of 1 servers connected, 0 calls, 0 waiting",
    "cluster.serve({}, TCP, name='s', registry='memory://x')": "<RegisteredServer of s, regist",
    "dubbo.serve(Hello(), 0)": "<Server of com.example.Hello on 127.0.0.1:",
    "dubbo.Client('dubbo://127.0.0.1:1')": "<Client dubbo://127.0.0.1:1, open, 0 services, 0 calls",
}
BLOCKING = {
    "rpc.connect_sync(AT)": "<SyncClient {at}, connected, 0 calls, 0 waiting>",
    "cluster.connect_sync('s', endpoints=[AT])": "<SyncPool s, 1 of 1 servers connected",
    "dubbo.connect_sync('dubbo://127.0.0.1:1')": "<SyncClient dubbo://127.0.0.1:1, open, 0 serv",
}


def told(source: str, address: str, *options: str) -> list[str]:
    """What a program says of what is unclosed; it must say nothing else."""
    done = subprocess.run(
        [sys.executable, *options, "-c", HEAD + source, address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert "never awaited" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "Warning: unclosed <" in line]
    # What a server that was not closed listens on is told by Python itself.
    return [line for line in lines if "unclosed <socket.socket" not in line]


ALWAYS = ("-W", "always::ResourceWarning")


@pytest.mark.parametrize("runner", RUNS)
def test_what_is_left_open_on_a_loop_is_told_once_when_the_loop_ends(runner: str) -> None:
    source = f"""
async def main():
    global kept
    kept = [await each for each in ({", ".join(KINDS)},)]
    closed = [await each for each in ({", ".join(KINDS)},)]
    for each in closed:
        await each.close()
    await asyncio.sleep(0)
{RUNS[runner]}(main())
print("end")
"""
    with server_process() as (_, address):
        lines = told(source, address, *ALWAYS)
        for each in KINDS.values():
            expected = f"unclosed {each.format(at=address)}"
            assert [expected in line for line in lines].count(True) == 1, (expected, lines)
        assert len(lines) == len(KINDS)


def test_a_store_that_is_still_served_is_told_as_that(tmp_path: Path) -> None:
    source = """
store = QueueStore(AT)
async def main():
    global kept
    kept = await broker.serve(store, TCP)
    async with broker.serve(store, TCP):
        pass
asyncio.run(main())
store.close()
print("end")
"""
    (line,) = told(source, str(tmp_path / "store"), *ALWAYS)
    assert "unclosed <BrokerServer of <QueueStore " in line


def test_what_is_closed_by_a_task_that_the_end_of_the_loop_cancels_is_closed() -> None:
    source = f"""
async def hold(opening, entered):
    async with opening:
        entered.release()
        await asyncio.sleep(3600)
async def main():
    entered = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(hold(each, entered)) for each in ({", ".join(KINDS)},)]
    for _ in tasks:
        await entered.acquire()
asyncio.run(main())
print("end")
"""
    with server_process() as (_, address):
        assert told(source, address, *ALWAYS) == []


def test_a_synchronous_client_that_is_dropped_is_told_at_once() -> None:
    source = f"""
import warnings
for make in ({", ".join(f"lambda: {each}" for each in BLOCKING)},):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        make()
        gc.collect()
    print("ResourceWarning:", seen[0].message, file=sys.stderr)
    assert len(seen) == 1, seen
    with make():
        pass
    make().close()
    gc.collect()
print("end")
"""
    with server_process() as (_, address):
        lines = told(source, address, "-W", "error::ResourceWarning")
        for line, expected in zip(lines, BLOCKING.values(), strict=True):
            assert expected.format(at=address) in line


def test_a_dubbo_client_that_is_dropped_on_its_loop_is_told_at_once() -> None:
    source = """
import warnings
async def main():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        dubbo.Client("dubbo://127.0.0.1:1")
        gc.collect()
    assert "unclosed <Client dubbo://127.0.0.1:1" in str(seen[0].message), seen
asyncio.run(main())
print("end")
"""
    assert told(source, "", *ALWAYS) == []


def test_the_end_of_the_interpreter_and_children_make_no_noise() -> None:
    source = f"""
clients = [{", ".join(BLOCKING)}]
loop = asyncio.new_event_loop()
async def main():
    return [await each for each in ({", ".join(KINDS)},)]
# A loop that nobody ends.
opened = loop.run_until_complete(main())
child = os.fork()
if child == 0:
    clients.clear()
    opened.clear()
    gc.collect()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("end")
"""
    with server_process() as (_, address):
        assert told(source, address, *ALWAYS) == []


def test_a_loop_that_goes_on_after_its_generators_were_ended_is_left_alone() -> None:
    source = """
loop = asyncio.new_event_loop()
first = loop.run_until_complete(rpc.connect(AT))
loop.run_until_complete(first.close())
loop.run_until_complete(loop.shutdown_asyncgens())
second = loop.run_until_complete(rpc.connect(AT))
loop.run_until_complete(second.close())
loop.close()
for _ in range(3):
    async def main():
        async with rpc.connect(AT):
            pass
    asyncio.run(main())
from dragoman import unclosed
assert len(unclosed._loops) == 1
print("end")
"""
    with server_process() as (_, address):
        assert told(source, address, "-W", "error") == []
