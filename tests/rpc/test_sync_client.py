"""The synchronous client over real sockets: calls, threads, errors and limits."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from dragoman import rpc
from tests.load_factor import load_factor
from tests.rpc.threaded_server import cancelled, noted, served
from tests.waiting import until_sync

pytestmark = pytest.mark.usefixtures("threads_end")


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
