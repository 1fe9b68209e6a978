"""The synchronous client over real sockets: threads, limits, faults, closing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvloop

from dragoman import rpc
from tests.load_factor import load_factor
from tests.waiting import until_sync


async def slow(body: bytes) -> bytes:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        cancelled.append(bytes(body))
        raise
    return body


def fail(body: bytes) -> bytes:
    raise rpc.RemoteError(f"failed {body!r}", code=1234)


def odd_fails(body: bytes) -> bytes:
    if int(body) % 2:
        raise rpc.RemoteError("odd")
    return body


cancelled: list[bytes] = []
noted: list[bytes] = []
FUNCTIONS: dict[str, Any] = {
    "echo": lambda body: body,
    "slow": slow,
    "fail": fail,
    "odd_fails": odd_fails,
    "note": lambda body: noted.append(body) or b"",
}


@contextmanager
def served(handler: Any = FUNCTIONS, address: str = "127.0.0.1:0", **options: Any) -> Iterator[Any]:
    """A server on a loop in a thread of its own; gives its address and a way to close it."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    server = run(rpc.serve(handler, address, **options))
    server.run = run
    try:
        yield server
    finally:
        run(server.close(drain_ms=0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """No client leaves its thread behind."""
    cancelled.clear()
    noted.clear()
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("dragoman-rpc ")] == []


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_every_style_of_calling_gets_its_reply(kind: str, tmp_path: Path) -> None:
    address = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    with served(address=address) as server, rpc.connect_sync(server.address) as client:
        assert client.call("echo") == b""
        assert client.call("echo", b"one") == b"one"
        assert client.call("echo", memoryview(b"two"), timeout_ms=1000, order_key="k") == b"two"
        large = os.urandom(3 << 20)
        assert client.call("echo", large) == large
        assert client.call_many("echo", [b"%d" % n for n in range(1000)]) == [
            b"%d" % n for n in range(1000)
        ]
        assert client.call_many("echo", []) == []
        assert client.call_future("echo", b"later").result(5) == b"later"
        assert list(client.map("echo", (b"%d" % n for n in range(500)), in_flight=7)) == [
            b"%d" % n for n in range(500)
        ]
        client.notify("note", b"noted")
        until_sync(lambda: noted == [b"noted"], 30.0)
        figures = client.statistics()
        assert (figures.calls, figures.bytes, figures.waiting, figures.failures) == (0, 0, 0, 0)
        assert figures.sent == 1506
        assert not client.closed


def test_many_threads_each_get_their_own_replies() -> None:
    wrong = []

    def work(number: int) -> None:
        for n in range(400):
            body = b"%d-%d" % (number, n)
            if client.call("echo", body) != body:
                wrong.append(body)

    with served() as server, rpc.connect_sync(server.address) as client:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        figures = client.statistics()
        assert (figures.replies, figures.calls, figures.connections) == (6400, 0, 1)
    assert wrong == []


def test_errors_are_the_servers_with_the_callers_traceback() -> None:
    def a_caller_of_ours(client: rpc.SyncClient) -> None:
        client.call("fail", b"x")

    with served() as server, rpc.connect_sync(server.address) as client:
        with pytest.raises(rpc.RemoteError, match="failed b'x'") as caught:
            a_caller_of_ours(client)
        assert caught.value.code == 1234
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert "a_caller_of_ours" in frames
        assert "run_forever" not in frames
        with pytest.raises(rpc.NotFoundError):
            client.call("nothing")
        with pytest.raises(rpc.BatchError) as batch:
            client.call_many("odd_fails", [b"0", b"1", b"2", b"3"])
        assert batch.value.errors.keys() == {1, 3}
        assert batch.value.replies == [b"0", None, b"2", None]
        with pytest.raises(rpc.RemoteError, match="failed"):
            client.call_future("fail", b"x").result(5)
        replies = client.map("odd_fails", [b"0", b"1", b"2"], in_flight=3)
        assert next(replies) == b"0"
        with pytest.raises(rpc.RemoteError, match="odd"):
            next(replies)
        assert client.call("echo", b"on") == b"on"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.call("echo", "text"), "body: expected bytes, not str"),
        (lambda c: c.call("", b""), "method: expected a name"),
        (lambda c: c.call(5, b""), "method: expected a name"),
        (lambda c: c.call("echo", timeout_ms=0), "timeout_ms: expected 1 to"),
        (lambda c: c.call("echo", order_key=5), "order_key: expected bytes or str"),
        (lambda c: c.call_many("echo", [b"", 5]), r"bodies\[1\]: expected bytes, not int"),
        (lambda c: c.call_future("echo", 5).result(5), "body: expected bytes, not int"),
        (lambda c: c.notify("echo", 5), "body: expected bytes, not int"),
        (lambda c: c.map("echo", [], in_flight=0), "in_flight: expected a number from 1"),
        (lambda c: list(c.map("echo", [5])), "body: expected bytes, not int"),
    ],
)
def test_arguments_that_make_no_call_are_refused(call: Callable[[Any], Any], message: str) -> None:
    with served() as server, rpc.connect_sync(server.address) as client:
        with pytest.raises(rpc.UsageError, match=message):
            call(client)
        assert client.statistics().calls == 0
        assert client.call("echo", b"on") == b"on"


def test_a_deadline_ends_a_call_and_is_told_to_the_server() -> None:
    with served() as server, rpc.connect_sync(server.address, timeout_ms=30) as client:
        began = time.monotonic()
        with pytest.raises(rpc.DeadlineError):
            client.call("slow", b"d")
        assert time.monotonic() - began < 2 * load_factor()
        with pytest.raises(rpc.DeadlineError):
            client.call("slow", b"e", timeout_ms=20)
        until_sync(lambda: sorted(cancelled) == [b"d", b"e"], 30.0)
        assert client.statistics().calls == 0


def test_a_full_client_refuses_or_holds_its_callers() -> None:
    with served(limit=2) as server:
        with rpc.connect_sync(server.address, on_full="fail") as client:
            under_way = [client.call_future("slow", b"") for _ in range(2)]
            until_sync(lambda: server.statistics().in_progress == 2, 30.0)
            with pytest.raises(rpc.OverloadError):
                client.call("echo")
            with pytest.raises(rpc.OverloadError):
                client.notify("echo")
            for future in under_way:
                assert future.cancel()
            until_sync(lambda: len(cancelled) == 2, 30.0)
        with rpc.connect_sync(server.address) as client:
            assert list(client.map("echo", [b"x"] * 300, in_flight=50)) == [b"x"] * 300


def test_a_cancelled_future_withdraws_its_call() -> None:
    with served() as server, rpc.connect_sync(server.address) as client:
        future = client.call_future("slow", b"f")
        until_sync(lambda: server.statistics().in_progress == 1, 30.0)
        assert future.cancel()
        done, _ = concurrent.futures.wait([future], timeout=1)
        assert done == {future}
        until_sync(lambda: cancelled == [b"f"], 30.0)
        until_sync(lambda: client.statistics().calls == 0, 30.0)
        ended = client.call_future("echo", b"x")
        assert ended.result(5) == b"x"
        assert not ended.cancel()


def test_an_iteration_takes_bodies_only_as_its_replies_are_taken() -> None:
    taken = []

    def bodies() -> Iterator[bytes]:
        for n in range(1000):
            taken.append(n)
            yield b"%d" % n

    with served() as server, rpc.connect_sync(server.address) as client:
        replies = client.map("echo", bodies(), in_flight=10)
        assert taken == []
        assert next(replies) == b"0"
        assert len(taken) == 11
        replies.close()  # type: ignore[attr-defined]
        assert len(taken) == 11
        slow_ones = client.map("slow", bodies(), in_flight=3)
        threading.Timer(0.1, lambda: server.run(server.close(drain_ms=0))).start()
        with pytest.raises(rpc.LinkLostError):
            next(slow_ones)


@pytest.mark.parametrize("wakes", [True, False])
def test_a_keyboard_interrupt_withdraws_the_call(wakes: bool) -> None:
    """Also one that came just before the thread blocked, and so did not wake it."""
    with served() as server, rpc.connect_sync(server.address) as client:
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            until_sync(lambda: server.statistics().in_progress == 1, 30.0)
            if wakes:
                signal.pthread_kill(main, signal.SIGINT)
            else:
                signal.raise_signal(signal.SIGINT)  # this thread's, for the main one to see

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.call("slow", b"i")
        thread.join()
        until_sync(lambda: cancelled == [b"i"], 30.0)
        until_sync(lambda: client.statistics().calls == 0, 30.0)
        assert client.call("echo", b"on") == b"on"


SERVER = """
import asyncio, sys, uvloop
from dragoman import rpc
async def slow(body):
    await asyncio.sleep(30)
async def main():
    server = await rpc.serve({"slow": slow, "echo": lambda body: body}, sys.argv[1])
    print(server.address, flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


@contextmanager
def server_process(address: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, address], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_killed_server_ends_each_call_under_way_once(kind: str, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()

    def work() -> None:
        try:
            client.call("slow", b"x")
        except rpc.DragomanError as error:
            outcomes[type(error).__name__] += 1
            assert not error.retry_safe

    address = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    with server_process(address) as (process, where), rpc.connect_sync(where) as client:
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        futures = [client.call_future("slow") for _ in range(100)]
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


def test_a_callback_on_the_clients_thread_may_begin_calls_but_not_wait_for_them() -> None:
    with served() as server, rpc.connect_sync(server.address) as client:
        seen: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def ended(future: concurrent.futures.Future[bytes]) -> None:
            try:
                client.call("echo", b"")
            except rpc.UsageError as error:
                seen.set_result((str(error), client.call_future("echo", b"next")))

        client.call_future("echo", b"first").add_done_callback(ended)
        message, following = seen.result(5)
        assert "own thread cannot wait" in message
        assert following.result(5) == b"next"


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


def test_a_connection_that_cannot_be_made_is_an_error_and_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(rpc.ConnectError):
        rpc.connect_sync(f"unix:{tmp_path}/nobody", connect_timeout_ms=50, reconnect=False)
    with pytest.raises(rpc.UsageError, match="calls_max"):
        rpc.connect_sync("127.0.0.1:1", calls_max=0)


@rpc.service
class Sums:
    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    async def wait(self) -> None:
        await asyncio.sleep(30)


class BlockingSums(Protocol):
    def add(self, a: int, b: int = 1) -> int: ...
    def wait(self) -> None: ...


BlockingSums.__name__ = "Sums"


def test_typed_services_are_called_without_await() -> None:
    with served(Sums()) as server, rpc.connect_sync(server.address) as client:
        sums = client.service(BlockingSums)
        assert sums.add(1) == 2
        assert sums.add(1, b=5) == 6
        wrong: Any = sums
        with pytest.raises(rpc.UsageError, match=r"Sums\.add: argument 1, 'a': expected int"):
            wrong.add("x")
        with pytest.raises(rpc.UsageError, match=r"Sums\.add: no argument for 'a'"):
            wrong.add()
        with pytest.raises(rpc.DeadlineError):
            rpc.with_options(sums, timeout_ms=20).wait()
        of_class: Any = client.service(Sums)
        assert of_class.add(2) == 3
