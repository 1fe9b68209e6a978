"""Odd options and odd files: what opens says so, or says what is wrong in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import DragomanError, StorageError, UsageError
from dragoman.queue import AsyncQueueStore, QueueStore
from dragoman.queue.api.repair import repair, verify

SMALL: dict[str, Any] = {"memory_bytes": 32 << 20, "cache_bytes": 1 << 20}
ODD: list[Any] = [
    None,
    "x",
    b"x",
    -1,
    0,
    1 << 70,
    1.5,
    float("nan"),
    [],
    object(),
    True,
    "interval(\u00b2)",
    "interval(0)",
    1 << 63,
    10**13,
]
OPTIONS = [
    "durability",
    "memory_bytes",
    "cache_bytes",
    "segment_bytes",
    "journal_bytes",
    "expected_queues",
    "retention_s",
    "retention_bytes",
    "retention_messages",
    "compact_below",
    "compaction_bytes_s",
    "compaction_memory_bytes",
    "files",
]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_odd_option_is_refused_by_its_name(option: str, tmp_path: Path) -> None:
    wrong: list[str] = []
    for odd in ODD:
        try:
            QueueStore(tmp_path / "store", **{**SMALL, option: odd}).close()
        except UsageError as error:
            if option not in str(error):
                wrong.append(f"{odd!r}: {error}")
        except Exception as error:
            wrong.append(f"{odd!r}: {error!r}")
    assert wrong == []


@pytest.mark.parametrize("path", [None, 5, 1.5, [], "", b"", "a\0b", "\ud800", object()], ids=repr)
def test_what_is_no_path_is_refused(path: Any) -> None:
    for opening in (QueueStore, verify, repair):
        with pytest.raises(UsageError, match="path"):
            opening(path)


@pytest.mark.parametrize("path", ["127.0.0.1:7400", "host:7400", "dragoman://host:7400", "unix:/x"])
def test_an_address_is_no_path_unless_it_is_there(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="and there is no such path"):
        QueueStore(path, **SMALL)
    assert list(tmp_path.iterdir()) == []
    with QueueStore(f"./{path}", **SMALL) as store:
        store.put("q", b"x")
    with QueueStore(path, create=False) as store:
        assert store.length("q") == 1


def test_a_path_may_be_bytes(tmp_path: Path) -> None:
    with QueueStore(os.fsencode(tmp_path / "store"), **SMALL) as store:
        store.put("q", b"x")
    assert verify(str(tmp_path / "store")) == []


@pytest.mark.parametrize("store", [None, "x", 5, object()], ids=repr)
def test_an_async_store_is_made_of_a_store(store: Any) -> None:
    with pytest.raises(UsageError, match="QueueStore"):
        AsyncQueueStore(store)


@pytest.mark.parametrize(
    "name",
    [
        "9999999999.jnl",
        "9999999999.seg",
        "0000000999.seg",
        "0000000999.jnl",
        "0000000000.seg",
        "00000000001.seg",
        "99999999999999999999.seg",
    ],
)
@pytest.mark.parametrize("content", [b"", b"x" * 5000], ids=["empty", "full"])
def test_a_stray_file_is_reported_once_and_left_alone(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    with QueueStore(path, **SMALL) as store:
        store.put_many("q", [b"%d" % i for i in range(100)])
    (path / name).write_bytes(content)
    for number in range(2):
        with QueueStore(path, **SMALL) as store:
            assert [(damage.file, damage.reason) for damage in store.damage] == [
                (name, "not a file of this store: it is left alone")
            ]
            assert store.get("q", 0, 1) == [b"0"]
            assert store.put("q", b"more") == 100 + number
            store.sync()
    assert (path / name).read_bytes() == content
    assert [damage.file for damage in verify(path)] == [name]


@pytest.mark.parametrize("content", [b"", b"x" * 5000], ids=["empty", "full"])
@pytest.mark.parametrize("durability", ["none", "always"])
@pytest.mark.parametrize(
    "names",
    [
        ["0000000004.seg"],
        ["0000000003.seg", "0000000004.seg", "0000000006.seg"],
        ["0000000004.jnl"],
        ["0000000003.jnl", "0000000005.jnl", "0000000003.seg"],
    ],
)
def test_a_store_that_grows_to_a_stray_files_number_goes_on(
    names: list[str], durability: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    options = {**SMALL, "durability": durability, "journal_bytes": 1 << 20}
    options["segment_bytes"] = 1 << 16
    with QueueStore(path, **options) as store:
        store.put("q", b"0")
        for name in names:
            (path / name).write_bytes(content)
        for number in range(1, 100):
            assert store.put("q", b"%d" % number * 6000) == number
    expected = [b"0"] + [b"%d" % number * 6000 for number in range(1, 100)]
    for _ in range(3):
        with QueueStore(path, **options) as store:
            assert store.get("q", 0, 1000) == expected
            assert {damage.file for damage in store.damage} <= set(names)
            assert not any(damage.messages for damage in store.damage)
            for number in range(20):
                message = b"%d" % number * 6000
                store.put("q", message)
                expected.append(message)
            store.compact()
            store._upkeep.rewrite_meta()
            store.sync()
    assert {damage.file for damage in verify(path)} <= set(names)
    for name in names:
        assert (path / name).read_bytes() == content


@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
@pytest.mark.parametrize("name", ["0000000002.seg", "0000000007.jnl"])
def test_what_is_no_file_keeps_nobody_waiting(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "store"
    with QueueStore(path, **SMALL) as store:
        store.put("q", b"x")
    if kind == "directory":
        (path / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(path / name)
    else:
        (path / name).symlink_to("/dev/zero")
    with QueueStore(path, read_only=True) as store:
        assert [damage.file for damage in store.damage] == [name]
        assert store.get("q", 0, 1) == [b"x"]


@pytest.mark.parametrize("name", ["STORE", "META", "EPOCH"])
def test_a_directory_in_place_of_a_file_is_a_clear_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "store"
    QueueStore(path, **SMALL).close()
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(StorageError, match=name):
        QueueStore(path, **SMALL)


def test_a_file_in_place_of_the_store_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.write_bytes(b"x")
    for opening in (QueueStore, verify, repair):
        with pytest.raises(DragomanError, match="store"):
            opening(path)
