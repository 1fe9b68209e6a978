"""Worlds for the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.queue import MessageStore
from tests.broker.nats_servers import PROGRAM, NatsServer, nats_server
from tests.broker.worlds import Async, Local, OnNats, Served, World

WORLDS = {"local": Local, "async": Async, "served": Served}


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server of NATS that only the conformance suite restarts."""
    if PROGRAM is None:
        pytest.skip("nats-server is not installed (Debian's package nats-server)")
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server of NATS that tests of one module restart."""
    with nats_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture(params=[*WORLDS, "nats"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Every kind of store."""
    world: World
    if request.param == "nats":
        world = OnNats(request.getfixturevalue("nats"))
    else:
        world = WORLDS[request.param](tmp_path / "store")
    try:
        yield world
    finally:
        world.stop()


@pytest.fixture
def store(world: World) -> Iterator[MessageStore]:
    """An open store of every kind."""
    with world.open() as store:
        yield store
