"""Registrations as keys and values: strict about what they say, tolerant of what they add."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError, UsageError
from dragoman.registry import Registration, format_address, parse_address
from dragoman.registry.registration import decode_entry

PREFIX = "/dragoman/services"
KEY = f"{PREFIX}/com.example.IHello/10.10.10.3:30000"

names = st.text("abcXYZ019._+-", max_size=64)
labels = st.text(max_size=256).filter(lambda text: text.isprintable())


@given(
    st.builds(
        Registration,
        interface=st.from_regex(r"[a-zA-Z_$][\w$.]{0,40}", fullmatch=True),
        host=st.sampled_from(["10.0.0.1", "host-1.example", "::1", "fe80::1%eth0"]),
        port=st.integers(1, 65535),
        weight=st.integers(1, 1_000_000),
        limit=st.integers(0, 1_000_000),
        protocol=names,
        serialization=names,
        group=labels,
        version=labels,
        zone=labels,
    )
)
def test_what_is_written_is_what_is_read(registration: Registration) -> None:
    entry = decode_entry(PREFIX, registration.key(PREFIX), registration.value())
    assert entry == (registration, False)
    leaving = decode_entry(PREFIX, registration.key(PREFIX), registration.value(leaving=True))
    assert leaving == (registration, True)
    assert parse_address(registration.address) == (registration.host, registration.port)


def test_the_layout_is_the_documented_one() -> None:
    registration = Registration(interface="a.B", host="10.0.0.1", port=30000, weight=2)
    assert registration.key(PREFIX) == "/dragoman/services/a.B/10.0.0.1:30000"
    assert json.loads(registration.value()) == {
        "weight": 2,
        "limit": 200,
        "protocol": "mesh",
        "serialization": "fastjson",
        "group": "",
        "version": "",
        "zone": "",
    }


def test_unknown_fields_are_tolerated_and_missing_ones_have_defaults() -> None:
    entry = decode_entry(PREFIX, KEY, b'{"weight": 3, "colour": {"deep": [1, 2]}, "limit": 0}')
    assert (entry.registration.weight, entry.registration.limit) == (3, 0)
    assert entry.registration.address == "10.10.10.3:30000"


def test_an_empty_value_means_defaults() -> None:
    entry = decode_entry("/dubbomesh", "/dubbomesh/a.B/10.10.10.3:30000", b"")
    assert entry.registration == Registration(interface="a.B", host="10.10.10.3", port=30000)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"{", "not one well-formed JSON value from byte 1 on"),
        (b"[]", "expected object, got array"),
        (b'{"weight": 0}', "expected int from 1 to 1000000 in field weight"),
        (b'{"weight": "2"}', "expected int, got str in field weight"),
        (b'{"weight": 1.5}', "expected int, got float in field weight"),
        (b'{"limit": 1e99}', "in field limit"),
        (b'{"protocol": "a b"}', "in field protocol"),
        (
            b'{"group": "' + b"x" * 300 + b'"}',
            "expected str of at most 256 characters",
        ),
        (b"\xff\xfe", "expected UTF-8"),
        (b'{"zone": "\xff"}', "expected UTF-8"),
        (b'{"x": ' + b"[" * 8000 + b"]" * 8000 + b"}", "nested too deep"),
        (b'"' + b" " * 20000 + b'"', "20002 bytes of value, expected at most 16384"),
    ],
)
def test_a_malformed_value_is_one_line_that_names_the_key(value: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_entry(PREFIX, KEY, value)
    assert str(caught.value).startswith(f"registry entry {KEY}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "",
        PREFIX,
        f"{PREFIX}/",
        f"{PREFIX}/a.B",
        f"{PREFIX}/a.B/",
        f"{PREFIX}/a.B/host",
        f"{PREFIX}/a.B/host:0",
        f"{PREFIX}/a.B/host:080",
        f"{PREFIX}/a.B/host:65536",
        f"{PREFIX}/a.B/host:1/2",
        f"{PREFIX}/a.B/::1:30000",
        f"{PREFIX}/a.B/[host]:30000",
        f"{PREFIX}/a.B/a b:30000",
        f"{PREFIX}/a\nB/host:1",
        "/other/a.B/host:1",
    ],
)
def test_a_malformed_key_is_refused(key: str) -> None:
    with pytest.raises(ProtocolError, match="registry entry"):
        decode_entry(PREFIX, key, b"{}")


@given(st.binary(max_size=200))
def test_no_value_does_anything_but_decode_or_be_refused(value: bytes) -> None:
    try:
        decode_entry(PREFIX, KEY, value)
    except ProtocolError:
        return


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interface": ""}, "interface ''"),
        ({"interface": "x" * 600}, "at most 512 bytes"),
        ({"host": ""}, "host ''"),
        ({"host": "a/b"}, "expected a host name or an IP address"),
        ({"port": 0}, "expected 1 to 65535"),
        ({"weight": 0}, "expected int from 1 to 1000000 in field weight"),
        ({"limit": -1}, "expected int from 0 to 1000000 in field limit"),
        ({"protocol": "x\n"}, "in field protocol"),
    ],
)
def test_a_registration_out_of_range_cannot_be_made(fields: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"interface": "a.B", "host": "h", "port": 1}
    with pytest.raises(UsageError) as caught:
        Registration(**{**good, **fields})
    assert message in str(caught.value)


def test_ipv6_addresses_are_written_in_brackets() -> None:
    assert format_address("::1", 30000) == "[::1]:30000"
    assert parse_address("[::1]:30000") == ("::1", 30000)
