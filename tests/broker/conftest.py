"""Worlds for the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.queue import MessageStore
from tests.broker.worlds import Async, Local, Served, World

WORLDS = {"local": Local, "async": Async, "served": Served}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Every kind of store."""
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
