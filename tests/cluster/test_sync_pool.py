"""The synchronous pool, and typed services over pools: real sockets, threads and forks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from dragoman import cluster, rpc
from dragoman.registry.memory import MemoryRegistry
from tests.cluster.pools import run
from tests.rpc.peers import server_process
from tests.rpc.threaded_server import cancelled as seen_cancelled
from tests.rpc.threaded_server import served
from tests.waiting import until_sync


class NoSuchAccount(rpc.RemoteError):
    code = 1404


@rpc.service(errors=[NoSuchAccount])
class Accounts:
    def __init__(self, where: str = "") -> None:
        self.where = where

    async def balance(self, account: str) -> int:
        if account != "ann":
            raise NoSuchAccount(f"no account {account}")
        return 5

    def site(self) -> str:
        return self.where

    async def wait(self) -> None:
        await asyncio.sleep(60)


class BlockingAccounts(Protocol):
    def balance(self, account: str) -> int: ...
    def site(self) -> str: ...
    def wait(self) -> None: ...


BlockingAccounts.__name__ = "Accounts"


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """No pool leaves its thread behind."""
    seen_cancelled.clear()
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("dragoman-rpc ")] == []


def test_a_pool_has_typed_services_as_a_client_has_them() -> None:
    async def work() -> None:
        async with (
            await rpc.serve(Accounts("a"), "127.0.0.1:0") as one,
            await rpc.serve(Accounts("b"), "127.0.0.1:0") as two,
            await cluster.connect(
                "bank", endpoints=[one.address, two.address], policy="round-robin", servers_min=2
            ) as pool,
        ):
            accounts = pool.service(Accounts, timeout_ms=60_000)
            assert await accounts.balance("ann") == 5
            assert {await found for found in map(_site, [accounts] * 8)} == {"a", "b"}
            with pytest.raises(NoSuchAccount, match="no account bob"):
                await accounts.balance("bob")
            wrong: Any = accounts
            with pytest.raises(
                rpc.UsageError, match=r"Accounts\.balance: argument 1, 'account': expected str"
            ):
                await wrong.balance(7)
            with pytest.raises(AttributeError, match="Accounts has no method 'nothing'"):
                _ = wrong.nothing
            with pytest.raises(rpc.DeadlineError):
                await rpc.with_options(accounts, timeout_ms=20).wait()
            kept = rpc.with_options(accounts, order_key="ann")
            assert len({await found for found in map(_site, [kept] * 8)}) == 1
            with pytest.raises(rpc.UsageError, match="expected a class that declares a service"):
                pool.service("Accounts")  # type: ignore[arg-type]
            assert repr(accounts) == "<stub of Accounts at bank>"
            assert set(dir(accounts)) == {"balance", "site", "wait", "with_options"}

    run(work)


async def _site(accounts: Any) -> str:
    site: str = await accounts.site()
    return site


def test_every_style_of_calling_blocks_for_its_reply() -> None:
    with (
        served() as one,
        served() as two,
        cluster.connect_sync("s", endpoints=[one.address, str(two.address)], servers_min=2) as pool,
    ):
        assert pool.call("echo") == b""
        assert pool.call("echo", memoryview(b"two"), timeout_ms=60_000, order_key="k") == b"two"
        bodies = [b"%d" % n for n in range(500)]
        assert pool.call_many("echo", bodies) == bodies
        assert pool.call_many("echo", []) == []
        assert pool.call_future("echo", b"later").result(30) == b"later"
        assert list(pool.map("echo", iter(bodies), in_flight=7)) == bodies
        pool.notify("note", b"noted")
        with pytest.raises(rpc.RemoteError, match="failed b'x'") as failed:
            pool.call("fail", b"x")
        assert failed.value.code == 1234
        with pytest.raises(rpc.BatchError) as batch:
            pool.call_many("odd_fails", [b"0", b"1"])
        assert batch.value.replies == [b"0", None]
        with pytest.raises(rpc.UsageError, match="body: expected bytes, not str"):
            pool.call("echo", "text")  # type: ignore[arg-type]
        with pytest.raises(rpc.UsageError, match="in_flight: expected a number from 1"):
            pool.map("echo", [], in_flight=0)
        with pytest.raises(rpc.DeadlineError):
            pool.call("slow", b"d", timeout_ms=20)
        pool.call_future("slow", b"c").cancel()
        until_sync(lambda: sorted(seen_cancelled) in ([b"d"], [b"c", b"d"]), 30.0)
        until_sync(lambda: pool.statistics().calls == 0, 30.0)
        assert len(pool.statistics().endpoints) == 2
        assert not pool.closed


def test_many_threads_call_and_look_at_the_statistics() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for n in range(300):
            body = b"%d-%d" % (number, n)
            if pool.call("echo", body) != body or len(pool.statistics().endpoints) != 2:
                wrong.append(body)

    with (
        served() as one,
        served() as two,
        cluster.connect_sync("s", endpoints={str(one.address): 1, str(two.address): 2}) as pool,
    ):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (pool.statistics().replies, pool.statistics().calls) == (2400, 0)
    assert wrong == []


def test_typed_services_wait_for_their_results() -> None:
    with (
        served(Accounts("a")) as server,
        cluster.connect_sync("bank", endpoints=[server.address]) as pool,
    ):
        accounts = pool.service(BlockingAccounts)
        assert (accounts.balance("ann"), accounts.site()) == (5, "a")
        of_class: Any = pool.service(Accounts)
        with pytest.raises(NoSuchAccount):
            of_class.balance("bob")
        with pytest.raises(rpc.DeadlineError):
            rpc.with_options(accounts, timeout_ms=20).wait()


def test_a_registry_is_followed_and_an_open_one_refused() -> None:
    with (
        server_process() as (_, address),
        cluster.connect_sync("s", registry=f"static://{address}") as pool,
    ):
        assert pool.call("echo", b"x") == b"x"
    with pytest.raises(rpc.UsageError, match="registry: expected a URL, not MemoryRegistry"):
        cluster.connect_sync("s", registry=MemoryRegistry("x"))  # type: ignore[arg-type]


def test_what_cannot_be_connected_says_so_and_leaves_no_thread() -> None:
    for options, message in (
        ({}, "either a registry or endpoints"),
        ({"endpoints": ["127.0.0.1:1"], "calls_max": 0}, "calls_max"),
        ({"endpoints": ["127.0.0.1:1"], "policy": "x"}, "policy: expected one of"),
        ({"endpoints": ["nowhere"]}, "expected host:port"),
        ({"registry": "ftp://x"}, "ftp"),
    ):
        with pytest.raises(rpc.UsageError, match=message):
            cluster.connect_sync("s", **options)  # type: ignore[arg-type]
    with pytest.raises(rpc.UnavailableError, match="0 servers of s connected within 50 ms"):
        cluster.connect_sync("s", endpoints=["127.0.0.1:1"], connect_timeout_ms=50)


def test_closing_ends_what_is_under_way_and_what_comes_later_as_a_pools() -> None:
    with served() as server:
        pool = cluster.connect_sync("s", endpoints=[server.address])
        under_way = pool.call_future("slow")
        pool.close(drain_ms=0)
        pool.close()
        assert pool.closed
        with pytest.raises(rpc.LinkLostError):
            under_way.result(30)
        for call in (pool.call, pool.notify, pool.call_future):
            with pytest.raises(rpc.UnavailableError, match="s is closed here") as late:
                call("echo")
            assert late.value.retry_safe


def test_a_pool_that_is_forgotten_ends_its_thread() -> None:
    with served() as server:
        pool = cluster.connect_sync("s", endpoints=[server.address])
        assert pool.call("echo", b"x") == b"x"
        gone = weakref.ref(pool)
        with pytest.warns(ResourceWarning, match="unclosed <SyncPool"):
            del pool
            gc.collect()
        assert gone() is None
        until_sync(lambda: server.statistics().clients == 0, 30.0)


FORKS = """
import os, sys
from dragoman import cluster, rpc
pool = cluster.connect_sync("s", endpoints=[sys.argv[1]])
assert pool.call("echo", b"x") == b"x"
child = os.fork()
if child == 0:
    for use in (lambda: pool.call("echo"), pool.statistics, lambda: pool.call_many("echo", [b""])):
        try:
            use()
        except rpc.UsageError as error:
            assert "the pool of s was opened by the process that this one was" in str(error), error
        else:
            os._exit(1)
    pool.close()
    with cluster.connect_sync("s", endpoints=[sys.argv[1]]) as own:
        assert own.call("echo", b"child") == b"child"
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert pool.call("echo", b"parent") == b"parent"
pool.close()
print("end")
"""
ENDS = """
import sys, threading
from dragoman import cluster
pool = cluster.connect_sync("s", endpoints=[sys.argv[1]])
for _ in range(4):
    threading.Thread(target=lambda: pool.call("slow"), daemon=True).start()
assert pool.call("echo", b"x") == b"x"
future = pool.call_future("slow")
print("end")
"""
INTERRUPTED = """
import signal, sys, threading, time
from dragoman import cluster
done = threading.Event()
def interrupt():
    while not any(t.name == "dragoman-rpc s" for t in threading.enumerate()):
        time.sleep(0.01)
    # Again if it came just before the main thread waited, which it then does not wake.
    while not done.wait(10):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    cluster.connect_sync("s", endpoints=["127.0.0.1:1"], connect_timeout_ms=3_600_000)
except KeyboardInterrupt:
    done.set()
    assert not any(t.name == "dragoman-rpc s" for t in threading.enumerate())
    print("end")
"""
PATCHED = """
import threading
def start(*_, **__): raise AssertionError("never")
threading._start_new_thread = start
from dragoman import cluster
try:
    cluster.connect_sync("s", endpoints=["127.0.0.1:1"])
except cluster.UsageError as error:
    print("end" if "patch_all" in str(error) else error)
"""


SCRIPTS = {"fork": FORKS, "exit": ENDS, "interrupt": INTERRUPTED, "greenlets": PATCHED}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_forks_the_end_of_the_interpreter_and_greenlets_are_as_a_clients(script: str) -> None:
    with served() as server:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", script, str(server.address)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
        assert "Fatal" not in done.stderr
        assert "Warning" not in done.stderr
        assert "destroyed" not in done.stderr


def test_it_has_the_options_of_the_asynchronous_one() -> None:
    def options(connect: Any) -> list[tuple[str, Any]]:
        parameters = inspect.signature(connect).parameters
        return [(each.name, each.default) for each in parameters.values()]

    assert options(cluster.connect_sync) == options(cluster.connect)
    assert options(rpc.connect_sync) == options(rpc.connect)
