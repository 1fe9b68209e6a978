"""Workers that are asked for or used wrongly, or whose store is closed or another process's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import UsageError
from dragoman.queue import QueueStore
from tests.queue.api.test_closing import CLOSED
from tests.queue.api.test_forking import FOREIGN, ended, in_child
from tests.queue.work.numbered import SMALL, filled, offsets

WRONG: list[tuple[Callable[[QueueStore], Any], str]] = [
    (lambda s: s.workers("q", "g", lease_ms=0), "lease_ms is a whole number"),
    (lambda s: s.workers("q", "g", lease_ms=1.5), "lease_ms is"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g", attempts_max=3), "go together"),
    (lambda s: s.workers("q", "g", dead_letter="d"), "go together"),
    (lambda s: s.workers("q", "g", attempts_max=0, dead_letter="d"), "attempts_max is 1 to"),
    (lambda s: s.workers("q", "g", attempts_max=3, dead_letter="q"), "another queue"),
    (lambda s: s.workers("q", "g", ordered_by=0), "ordered_by is"),
    (lambda s: s.workers("q", "g", ordered_by=[]), "ordered_by is"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g", window=0), "window is"),
    (lambda s: s.workers("", "g"), "1 to 65536"),
    (lambda s: s.workers("q", ""), "1 to 1024"),
    (lambda s: s.workers("q", b"\0dragoman.workers\0x"), "the store's own"),
    (lambda s: s.commit("q", b"\0dragoman.workers\0x", 1), "the store's own"),
    (lambda s: s.workers("q", "g").take(0), "1 to 100000 messages"),
    (lambda s: s.workers("q", "g").take("1"), "1 to 100000 messages"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g").take(wait_ms=-1), "wait_ms is"),
    (lambda s: s.workers("q", "g").ack([5]), "no messages that take"),  # type: ignore[list-item]
    (lambda s: s.workers("q", "g").ack(None), "no messages that take"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g").nack([], delay_ms=-1), "a delay is"),
    (lambda s: s.workers("q", "g").extend([], lease_ms=0), "a lease is"),
]


@pytest.mark.parametrize(("call", "reason"), WRONG, ids=range(len(WRONG)))
def test_misuse_of_workers_is_refused_with_a_reason(
    call: Callable[[QueueStore], Any], reason: str, tmp_path: Path
) -> None:
    store, _ = filled(tmp_path)
    with pytest.raises(UsageError, match=reason):
        call(store)
    store.close()


def test_workers_of_one_group_agree_on_its_settings(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    one = store.workers("q", "g", ordered_by=1)
    two = store.workers("q", "g", ordered_by=2)
    taken = one.take(1)
    with pytest.raises(UsageError, match="other attempts_max, dead_letter, ordered_by or window"):
        two.take(1)
    one.ack(taken)
    assert offsets(two.take(1)) == [1]
    store.close()


def test_a_key_that_cannot_be_told_is_the_callers_error(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g", ordered_by=lambda body: [body])  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(UsageError, match="ordered_by: TypeError: unhashable"):
            worker.take(1)
    assert offsets(store.workers("q", "g").take(1)) == [0]
    store.close()


def test_workers_of_a_closed_or_read_only_store_say_so(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    taken = worker.take(2)
    store.close()
    for call in (worker.take, lambda: worker.ack(taken), lambda: worker.nack(taken)):
        with pytest.raises(UsageError, match=CLOSED):
            call()
    reader = QueueStore(tmp_path, read_only=True)
    with reader, pytest.raises(UsageError, match="read-only"):
        reader.workers("q", "g").take()


def test_closing_ends_a_worker_that_waits(tmp_path: Path) -> None:
    store = QueueStore(tmp_path, **SMALL)
    store.put("q", b"m")
    worker = store.workers("q", "g")
    worker.take()
    caught: list[BaseException] = []
    began = threading.Event()

    def wait() -> None:
        began.set()
        try:
            worker.take(wait_ms=60_000)
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert began.wait(30)
    store.close()
    thread.join(30)
    assert [str(error) for error in caught] == [CLOSED]


def test_workers_of_a_forked_child_are_refused(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    taken = worker.take(2)
    group = store._work.known()[0]

    def child() -> None:
        for call in (
            worker.take,
            lambda: worker.ack(taken),
            lambda: store.workers("q", "g").take(),
        ):
            with pytest.raises(UsageError, match=FOREIGN):
                call()
        store.close()

    # Somebody is at it when the process is forked.
    with group.lock:
        assert ended(in_child(child)) == 0
    assert worker.ack(taken) == 2
    store.close()
