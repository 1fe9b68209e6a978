"""A registry that cannot be reached is told as such: by the log, by calls, by what waits for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import sys
import time
from collections.abc import Iterator

import pytest
import uvloop

from dragoman import dubbo
from dragoman.cli.main import run
from dragoman.cluster.directory import Directory
from dragoman.cluster.options import Options
from dragoman.errors import UnavailableError
from dragoman.registry import open_registry
from dragoman.registry.names import EVERY
from dragoman.registry.url import SCHEMES, check_registry_url
from tests.load_factor import load_factor

REMOTE = ["etcd", "zookeeper", "nacos"]
WHERE = {
    "etcd": r"etcd at http://127.0.0.1:{port}.*: cannot connect: Connection refused",
    "zookeeper": r"ZooKeeper at 127.0.0.1:{port} has not answered",
    "nacos": r"Nacos: 127.0.0.1:{port}: cannot connect: Connection refused",
}


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on, or can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("scheme", REMOTE)
def test_a_call_says_that_the_registry_cannot_be_reached(
    scheme: str, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{scheme}://127.0.0.1:{port}"
    arguments = ["dragoman", "call", "--timeout", "700", "--registry", url, "a.B", "hello"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        run()
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 1
    assert re.search(WHERE[scheme].format(port=port), line), line
    assert "free provider" not in line


@pytest.mark.parametrize("scheme", REMOTE)
@pytest.mark.parametrize("command", ["call", "services"])
def test_a_commands_time_holds_for_all_that_it_does(
    command: str,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A registry that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}"
        arguments = ["dragoman", command, "--timeout", "700", "--registry", url]
        monkeypatch.setattr(sys, "argv", [*arguments, *(["a.B", "hello"] * (command == "call"))])
        began_s = time.monotonic()
        with pytest.raises(SystemExit) as caught:
            run()
        took_s = time.monotonic() - began_s
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 1 and scheme in line.lower()
    assert took_s < 1.3 * load_factor(), line
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("scheme", REMOTE)
def test_a_call_that_waits_fails_with_the_registrys_reason(scheme: str, port: int) -> None:
    async def main() -> None:
        async with dubbo.Client(f"{scheme}://127.0.0.1:{port}", timeout_ms=700) as client:
            service = client.service("a.B")
            with pytest.raises(UnavailableError) as caught:
                await service.hello()
            assert "the registry has not been read yet: " in str(caught.value)
            assert re.search(WHERE[scheme].format(port=port), str(caught.value))
            assert caught.value.retry_safe

    uvloop.run(main())


@pytest.mark.parametrize("scheme", REMOTE)
def test_the_log_speaks_of_a_last_list_only_where_there_is_one(
    scheme: str, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dragoman")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        registry = open_registry(f"{scheme}://127.0.0.1:{port}")
        directory = Directory(loop, Options())
        watch = registry.watch(EVERY, directory.update)
        directory.why_unread = lambda: watch.why_unread
        async with asyncio.timeout(60):
            while not caplog.records:
                await asyncio.sleep(0.02)
        with pytest.raises(UnavailableError, match=r"not been read yet: .*127\.0\.0"):
            directory.find("a.B")
        assert directory.ready_reason() == watch.why_unread
        await registry.close()

    uvloop.run(main())
    text = caplog.text
    assert "no list yet" in text
    assert re.search(WHERE[scheme].format(port=port), text), text
    assert "serve on" not in text
    assert "serves on" not in text


@pytest.mark.parametrize("command", ["agent consumer", "agent provider", "call", "services"])
def test_every_help_names_every_registry(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["dragoman", *command.split(), "-h"])
    with pytest.raises(SystemExit):
        run()
    text = capsys.readouterr().out
    for scheme in SCHEMES:
        assert f"{scheme}://" in text, scheme


def test_an_error_names_every_registry_and_each_named_one_is_taken() -> None:
    with pytest.raises(dubbo.UsageError) as caught:
        check_registry_url("consul://h:1")
    for scheme in SCHEMES:
        assert f"{scheme}://" in str(caught.value)
        check_registry_url(f"{scheme}://127.0.0.1:2181")


def test_providers_themselves_are_a_registry_for_agents_too() -> None:
    async def main() -> None:
        registry = open_registry("dubbo://127.0.0.1:20880?limit=7,127.0.0.1:20881")
        one, two = registry.watch("a.B").current
        assert (one.address, one.protocol, one.serialization) == (
            "127.0.0.1:20880",
            "dubbo",
            "auto",
        )
        assert (one.limit, two.address, two.interface) == (7, "127.0.0.1:20881", "a.B")
        await registry.close()

    uvloop.run(main())
