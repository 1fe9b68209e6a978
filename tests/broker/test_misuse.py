"""Whatever a store's methods are given, they answer or raise an error of ``dragoman.errors``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dragoman.errors import DragomanError
from dragoman.queue import MessageStore

ODD: list[Any] = [
    None,
    "x",
    b"x",
    -1,
    1 << 70,
    -(1 << 70),
    1.5,
    float("nan"),
    [],
    {},
    object(),
    "\ud800",
    b"",
    "",
    "a\0b",
    (1,),
    [(1, 2)],
    [None],
]


def calls_with(store: MessageStore, odd: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    group = store.consumer("q", "g")
    yield "put, queue", lambda: store.put(odd, b"x")
    yield "put, message", lambda: store.put("q", odd)
    yield "put_many", lambda: store.put_many(odd)
    yield "put_many, messages", lambda: store.put_many("q", odd)
    yield "put_many, queues", lambda: store.put_many(odd, [b"x"])
    yield "put_many, beside", lambda: store.put_many(["q"], odd)
    yield "get, queue", lambda: store.get(odd, 0)
    yield "get, offset", lambda: store.get("q", odd)
    yield "get, count", lambda: store.get("q", 0, odd)
    yield "get_many", lambda: store.get_many(odd)
    yield "get_many, one", lambda: store.get_many([odd])
    yield "get_many, parts", lambda: store.get_many([(odd, odd, odd)])
    yield "length", lambda: store.length(odd)
    yield "first_offset", lambda: store.first_offset(odd)
    yield "wait_for, queue", lambda: store.wait_for(odd, 0, 1)
    yield "wait_for, offset", lambda: store.wait_for("q", odd, 1)
    if odd is not None and odd != 1 << 70:
        yield "wait_for, timeout", lambda: store.wait_for("q", 99_999, odd)
        yield "read, wait", lambda: store.consumer("other", "g").read(1, wait_ms=odd)
    yield "in", lambda: odd in store
    yield "consumer, queue", lambda: store.consumer(odd, "g")
    yield "consumer, group", lambda: store.consumer("q", odd)
    yield "read, count", lambda: group.read(odd)
    yield "commit, queue", lambda: store.commit(odd, "g", 0)
    yield "commit, group", lambda: store.commit("q", odd, 0)
    yield "commit, position", lambda: store.commit("q", "g", odd)
    yield "committed, queue", lambda: store.committed(odd, "g")
    yield "committed, group", lambda: store.committed("q", odd)
    yield "groups", lambda: store.groups(odd)
    yield "trim, queue", lambda: store.trim(odd, 0)
    yield "trim, before", lambda: store.trim("none", odd)
    yield "delete", lambda: store.delete(odd)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12].encode("ascii", "replace"))
def test_odd_arguments_are_refused_in_dragomans_words(store: MessageStore, odd: Any) -> None:
    store.put("q", b"1")
    raw: list[str] = []
    for name, call in calls_with(store, odd):
        try:
            call()
        except DragomanError:
            pass
        except Exception as error:
            raw.append(f"{name}: {error!r}")
    assert raw == []
