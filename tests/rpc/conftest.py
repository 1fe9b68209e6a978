"""What tests of synchronous clients leave behind: nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.rpc.threaded_server import cancelled, noted


@pytest.fixture
def threads_end() -> Iterator[None]:
    """No client leaves its thread behind."""
    cancelled.clear()
    noted.clear()
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("dragoman-rpc ")] == []
