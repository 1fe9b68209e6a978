"""The etcd that the race and the registry's tests run: found, started, killed, restarted,
explained.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from dragoman.errors import RegistryError, UsageError
from dragoman.harness.etcd import EtcdServer, find_etcd


def test_a_server_starts_is_killed_and_restarts_on_the_same_port(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = EtcdServer(tmp_path)
        try:
            await server.start()
            url, first = server.client_url, server.pid
            assert first is not None
            server.kill()
            assert server.pid is None
            await server.restart()
            assert server.client_url == url
            assert server.pid not in (None, first)
        finally:
            await server.stop()
        assert server.pid is None
        await server.stop()

    asyncio.run(scenario())


def test_a_server_that_cannot_start_explains_itself_with_its_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = EtcdServer(tmp_path, extra_args=("--no-such-option",))
        with pytest.raises(RegistryError, match="no-such-option"):
            await server.start()
        assert server.pid is None

    asyncio.run(scenario())


def test_a_missing_program_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DRAGOMAN_ETCD", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="expected an executable etcd"):
        find_etcd()


def test_the_program_found_is_no_script_that_hides_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DRAGOMAN_ETCD", raising=False)
    program = find_etcd()
    assert os.access(program, os.X_OK)
    assert program.read_bytes()[:4] == b"\x7fELF"
