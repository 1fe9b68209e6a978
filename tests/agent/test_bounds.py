"""What a worker may use of its container's memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dragoman.agent import bounds
from dragoman.agent.config import ConsumerConfig, ProviderConfig
from dragoman.agent.runtime import _make
from dragoman.agent.worker import Worker

MIB = 1 << 20


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A container of 400 MiB."""
    limit = tmp_path / "memory.max"
    limit.write_text(f"{400 * MIB}\n")
    monkeypatch.setattr(bounds, "_CGROUP_FILES", (limit,))
    return limit


@pytest.mark.parametrize(
    "config",
    [
        ConsumerConfig(listen="127.0.0.1:0", registry="static://127.0.0.1:1", workers=4),
        ProviderConfig(
            listen="127.0.0.1:0",
            registry="static://127.0.0.1:1",
            interface=["a.B"],
            provider="127.0.0.1:1",
        ),
    ],
)
def test_workers_share_the_memory_of_their_container(config: Any, container: Path) -> None:
    async def scenario() -> None:
        for count, expected in ((1, 400 * MIB), (4, 100 * MIB)):
            agent: Any = _make(config, Worker(0, count, lambda reason: None))
            assert agent._memory_bytes_max == expected

    asyncio.run(scenario())


def test_what_is_configured_is_a_workers_own(container: Path) -> None:
    assert bounds.memory_bytes_max(200, 4) == 200 * MIB
    container.write_text("max\n")
    assert bounds.memory_bytes_max(0, 4) == 0
