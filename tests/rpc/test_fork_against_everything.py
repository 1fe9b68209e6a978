"""Processes are forked while threads call: no child hangs or reaches its parent's connections, and
no call of the parent is lost or answered with another's reply."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman import cluster, rpc
from tests.queue.api.test_fork_against_everything import WAYS, Busy, refused
from tests.rpc.peers import server_process


def fork_against(way: str, rounds: int) -> None:
    """A blocking client and a blocking pool, of a server that is another process."""
    with (
        server_process() as (_, address),
        rpc.connect_sync(address) as client,
        cluster.connect_sync("s", endpoints=[address]) as pool,
    ):
        numbers = iter(range(1 << 30))

        def call(on: Any) -> None:
            body = b"%d" % next(numbers)
            assert on.call("echo", body) == body

        def call_many(on: Any) -> None:
            bodies = [b"%d" % next(numbers) for _ in range(50)]
            assert on.call_many("echo", bodies) == bodies
            assert list(on.map("echo", bodies)) == bodies

        def child() -> None:
            for each in (client, pool):
                refused([lambda each=each: each.call("echo", b"x"), each.statistics])
                each.close()

        calls = [lambda on=on, of=of: of(on) for on in (client, pool) for of in (call, call_many)]
        busy = Busy(calls * 2)
        try:
            for _ in range(rounds):
                assert WAYS[way](child) == 0
        finally:
            busy.stop()
        assert client.statistics().connections == 1


@pytest.mark.parametrize("way", WAYS)
def test_fork_against_everything(way: str) -> None:
    fork_against(way, rounds=8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
def test_fork_against_everything_for_minutes(way: str) -> None:
    fork_against(way, rounds=1000)
