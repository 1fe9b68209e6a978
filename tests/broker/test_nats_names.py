"""Stores on JetStream as far as no server is needed: names, URLs, and how an offset is found."""

from __future__ import annotations

import random

import pytest

from dragoman import broker
from dragoman.broker.nats_names import Location, name_of, parse, token_of
from dragoman.broker.nats_records import BLOCK, LAST, PART, Found, Places, Record, Search
from dragoman.errors import (
    UsageError,
)


def test_every_name_has_a_token_of_its_own() -> None:
    rng = random.Random(1)
    names = {bytes([b]) for b in range(256)} | {rng.randbytes(n) for n in range(1, 400)}
    names |= {b"a" * n for n in range(1, 300)} | {b"=41", b"A", b"~", b"a.b", b"x" * 65536}
    tokens = {token_of(name) for name in names}
    assert len(tokens) == len(names)
    for name in names:
        token = token_of(name)
        assert len(token) <= 200 and not set(token) & set(" .*>\t\r\n\0") and token.isascii()
        assert token.startswith("~") or name_of(token) == name
    assert token_of(b"orders-7_x") == "orders-7_x"
    assert token_of(b"a.b") == "a=2Eb"


def test_urls_say_servers_prefix_and_settings() -> None:
    assert parse("nats://a/p") == Location(["nats://a:4222"], "p")
    assert parse("nats://u:p%40@a:1,[::1]:2,c/q-1?replicas=3&storage=memory") == Location(
        ["nats://a:1", "nats://[::1]:2", "nats://c:4222"], "q-1", 3, "memory", "u", "p@"
    )


@pytest.mark.parametrize(
    "url",
    [
        "nats://a",
        "nats://a/",
        "nats://a/x.y",
        "nats://a/x/y",
        "nats:///p",
        "nats://a:b/p",
        "nats://a:0/p",
        "nats://a,/p",
        "nats://a/p?replicas=0",
        "nats://a/p?replicas=x",
        "nats://a/p?storage=tape",
        "nats://a/p?color=red",
        "nats://a/p?replicas",
        "nats://me:secret@a/x.y",
    ],
)
def test_a_url_that_says_nothing_of_use_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="expected nats://") as caught:
        broker.open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_a_search_finds_every_offset_in_few_steps(seed: int) -> None:
    rng = random.Random(seed)
    records: list[Found] = []
    seq, offset = 0, 0
    for _ in range(rng.choice([1, 2, 50, 400])):
        seq += rng.choice([1, 1, 2, 50, 3000])
        kind = rng.choice([BLOCK] * 8 + [PART, LAST])
        count = rng.choice([1, 1, 3, 200]) if kind == BLOCK else 1
        records.append(Found(seq, Record(kind, b"", b"", offset, [b""] * count)))
        offset = records[-1].record.end
    seq += 1
    records.append(Found(seq, Record(BLOCK, b"", b"", offset, [b""])))
    length = offset + 1
    purged = rng.choice([0, 0, len(records) // 2])
    left = records[purged:]
    first = left[0].record.first
    places = Places(b"")
    for _ in range(300):
        wanted = rng.randrange(length)
        low, high = places.around(wanted)
        search = Search(wanted, low, high or (length, seq + 1))
        for _step in range(60):
            asked = search.probe()
            got = next((each for each in left if each.seq >= asked), None)
            if got is not None:
                places.note(got.record.first, got.seq)
            if search.answer(asked, got):
                break
        else:
            pytest.fail(f"no end for {wanted}")
        if wanted < first:
            assert search.found is None and search.gone
        else:
            assert search.found is not None
            assert search.found.record.first <= wanted < search.found.record.end
