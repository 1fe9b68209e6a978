"""A served store in a process of its own: killed while programs put, found in the registry."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman import broker, rpc
from dragoman.errors import (
    DeadlineError,
    LinkError,
    PositionLostError,
    RegistryError,
    UnavailableError,
    UsageError,
)
from dragoman.harness.etcd import EtcdServer
from dragoman.queue import QueueStore
from tests.broker.worlds import SMALL, Serving

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def process(place: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``dragoman queue serve``; its address, and the process, which is killed at the end."""
    command = [sys.executable, "-m", "dragoman", "queue", "serve", str(place), "--listen"]
    with subprocess.Popen(
        [*command, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        try:
            assert line.startswith("serving "), line
            yield line.split()[-1], child
        finally:
            if child.poll() is None:
                child.kill()


def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """Cycles of kill -9 while four threads put; what is unknown is there once, or not at all."""
    acknowledged: dict[tuple[bytes, int], bytes] = {}
    unknown: set[bytes] = set()
    lock = threading.Lock()
    failures: list[BaseException] = []
    stop = threading.Event()
    started = threading.Event()
    where = [""]

    def put_on(writer: int) -> None:
        number = 0
        try:
            with broker.open_store(f"dragoman://{where[0]}", timeout_ms=20_000) as store:
                while not stop.is_set():
                    name = b"q%d" % (number % 3)
                    messages = [b"%d:%d" % (writer, number + i) for i in range(4)]
                    number += 4
                    try:
                        offsets = store.put_many(name, messages)
                    except rpc.LinkLostError:
                        unknown.update(messages)
                        continue
                    with lock:
                        for offset, message in zip(offsets, messages, strict=True):
                            assert (name, offset) not in acknowledged
                            acknowledged[name, offset] = message
                    started.set()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=put_on, args=(n,)) for n in range(4)]
    listen = "127.0.0.1:0"
    for cycle in range(4):
        with process(tmp_path, listen, "--durability", "always") as (address, child):
            listen = where[0] = address
            if cycle == 0:
                for thread in threads:
                    thread.start()
            _wait(started)
            started.clear()
            _wait(started)
            time.sleep(0.1)
            if cycle == 3:
                stop.set()
                for thread in threads:
                    thread.join()
            child.send_signal(signal.SIGKILL)
            child.wait()
            started.clear()
    assert failures == []
    with QueueStore(tmp_path) as store:
        assert store.damage == []
        for name in (b"q0", b"q1", b"q2"):
            messages = store.get(name, 0, store.length(name))
            assert len(set(messages)) == len(messages), "stored twice"
            for offset, message in enumerate(messages):
                known = acknowledged.pop((name, offset), None)
                assert known == message or (known is None and message in unknown)
    assert acknowledged == {}


def _wait(event: threading.Event) -> None:
    assert event.wait(30), "nothing is acknowledged any more"


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry."""
    import asyncio

    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    asyncio.run(server.start())
    try:
        yield server.registry_url
    finally:
        asyncio.run(server.stop())


def test_a_registered_store_is_found_by_its_name_and_followed(tmp_path: Path, etcd: str) -> None:
    where = f"{etcd}?store=orders"
    options = {"registry": etcd, "name": "orders", "lease_ttl_s": 3}
    serving = Serving(tmp_path / "a", **options)
    with broker.open_store(where) as store:
        assert store.put("q", b"0") == 0
        assert list(store.queues()) == [b"q"]
        # It comes again at another port.
        serving.stop()
        again = threading.Timer(0.3, lambda: servings.append(Serving(tmp_path / "a", **options)))
        servings: list[Serving] = []
        again.start()
        assert store.put("q", b"1") == 1
        assert store.get("q", 0, 9) == [b"0", b"1"]
        again.join()
    servings[0].stop()
    with pytest.raises((UnavailableError, RegistryError)):
        broker.open_store(where, connect_timeout_ms=300)
    with pytest.raises((UnavailableError, RegistryError)):
        broker.open_store(f"{etcd}?store=others", connect_timeout_ms=300)


def test_two_stores_under_one_name_are_not_mixed(tmp_path: Path, etcd: str) -> None:
    options = {"registry": etcd, "name": "twice", "lease_ttl_s": 3}
    one, two = (Serving(tmp_path / name, **options) for name in "ab")
    try:
        where = f"{etcd}?store=twice"
        said = ""
        try:
            with broker.open_store(where, timeout_ms=1000) as store:
                for number in range(50):
                    assert store.put("q", b"%d" % number) == number
        except (UsageError, LinkError, DeadlineError) as error:
            said = str(error)
        assert not said or "registered under one name" in said
        lengths = [serving.store.length("q") for serving in (one, two)]
        assert 0 in lengths, "messages went to both"
    finally:
        one.stop()
        two.stop()


def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    path = tmp_path / "q.sock"
    serving = Serving(tmp_path / "a", f"unix:{path}")
    with broker.open_store(f"unix:{path}") as store:
        assert store.put("q", b"m") == 0
        assert store.get("q", 0) == [b"m"]
    serving.stop()


def test_a_server_that_is_read_only_says_so_of_puts(tmp_path: Path) -> None:
    with QueueStore(tmp_path, **SMALL) as store:
        store.put("q", b"m")
    serving = Serving(tmp_path, read_only_store=True)
    with broker.open_store(f"dragoman://{serving.address}") as opened:
        assert opened.get("q", 0) == [b"m"]
        for call in (
            lambda: opened.put("q", b""),
            lambda: opened.trim("q", 1),
            lambda: opened.delete("q"),
            lambda: opened.commit("q", "g", 1),
            opened.sync,
        ):
            with pytest.raises(UsageError, match="read-only"):
                call()
    serving.stop()


@pytest.mark.parametrize(
    "where",
    ["", "dragoman://", "http://x", "etcd://", "dragoman://host", "unix:", "etcd://h:1?store="],
)
def test_what_is_no_place_of_a_store_is_refused(where: str) -> None:
    with pytest.raises(UsageError):
        broker.open_store(where)


def test_options_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    for options in ({"durability": "none"}, {"timeout_ms": 0}, {"bytes_max": "x"}):
        with pytest.raises(UsageError):
            broker.open_store("dragoman://127.0.0.1:1", **options)
    with pytest.raises(UsageError, match="'timeout_ms'"):
        broker.open_store(str(tmp_path), timeout_ms=1)
    with pytest.raises(UsageError):
        broker.open_store(5)  # type: ignore[call-overload]


def test_a_consumer_of_a_killed_server_misses_nothing_that_came_later(tmp_path: Path) -> None:
    """Under ``none`` a kill takes the ends of queues; what is put then gets their offsets."""
    with process(tmp_path, "127.0.0.1:0", "--durability", "none") as (address, child):
        store = broker.open_store(f"dragoman://{address}")
        store.put_many("q", [b"old %d" % i for i in range(50)])
        store.put_many("kept", [b"kept %d" % i for i in range(50)])
        consumer = store.consumer("q", "g")
        other = store.consumer("kept", "g")
        assert len(consumer.read(50)) == 50
        store.sync()
        assert len(other.read(50)) == 50
        store.put_many("q", [b"lost %d" % i for i in range(5)])
        assert len(consumer.read(50)) == 5
        child.send_signal(signal.SIGKILL)
        child.wait()
        with process(tmp_path, address, "--durability", "none") as (_, again):
            new = [b"new %d" % i for i in range(60)]
            store.put_many("q", new)
            store.put_many("kept", new)
            with pytest.raises(PositionLostError, match="from offset 50 on"):
                consumer.read(100)
            assert consumer.read(200)[-60:] == new
            assert other.read(100) == new
            consumer.commit()
            again.send_signal(signal.SIGTERM)
            again.wait()
        with process(tmp_path, address, "--durability", "none"):
            store.put("q", b"last")
            assert consumer.read(5) == [b"last"]
            store.close()
