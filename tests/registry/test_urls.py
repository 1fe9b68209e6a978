"""Registry URLs and static lists: what they mean, and how they say no."""

from __future__ import annotations

import logging

import pytest
import uvloop

from dragoman.errors import UsageError
from dragoman.registry import check_registry_url, open_registry
from dragoman.registry.static import parse_static
from dragoman.registry.url import parse_etcd, redact_url


def test_an_etcd_url_names_members_prefix_and_user() -> None:
    plain = parse_etcd("127.0.0.1:2379")
    assert plain == (["http://127.0.0.1:2379"], "/dragoman/services", "", "")
    full = parse_etcd("ro%40ot:p%3Aw:x@h1:1,h2,[::1]:3,[::2]/dubbomesh/")
    assert full.members == ["http://h1:1", "http://h2:2379", "http://[::1]:3", "http://[::2]:2379"]
    assert (full.prefix, full.user, full.password) == ("/dubbomesh", "ro@ot", "p:w:x")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "expected etcd://host:port"),
        ("127.0.0.1:2379", "expected etcd://host:port"),
        ("etcd://", "expected etcd://host:port"),
        ("consul://h:1", "expected etcd://host:port"),
        ("etcd://h:99999", "expected a port from 1 to 65535"),
        ("etcd://h:1,,h:2", "expected host:port"),
        ("etcd://h:1,h:1", "names a member twice"),
        ("etcd://user@h:1", "expected user:password before the @"),
        ("etcd://h:1/a b", "expected a path such as /dubbomesh"),
        ("static://h", "address 'h': expected host:port"),
        ("static://h:1?weight=x", "static endpoint h:1: weight=x: expected a number"),
        ("static://h:1?weight=0", "expected int from 1 to 1000000 in field weight"),
        ("static://h:1?colour=red", "unknown field 'colour', expected one of weight, limit"),
        ("static://h:1?weight=1&weight=2", "weight is given twice"),
        ("static://h:1,h:1", "h:1 is listed twice"),
        ("static://h:1,", "address '': expected host:port"),
    ],
)
def test_a_bad_url_is_one_clear_line(url: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_registry_url(url)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_user_and_password_appear_in_no_message_and_no_location(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        registry = open_registry("etcd://root:geheim@127.0.0.1:1")
        watch = registry.watch("a.B")
        try:
            await watch.ready(0.3)
        except Exception as error:
            assert "geheim" not in str(error)
        assert registry.location == "etcd://127.0.0.1:1"
        await registry.close()

    with caplog.at_level(logging.DEBUG):
        uvloop.run(scenario())
    assert "geheim" not in caplog.text
    assert redact_url("etcd://root:ge@heim@h:1/p") == "etcd://h:1/p"


def test_a_static_list_reads_as_it_is_documented() -> None:
    first, second = parse_static(
        "127.0.0.1:30000?weight=2, 127.0.0.1:30001?weight=3&limit=50&interface=a.B&group=g%201"
    )
    assert (first.address, first.weight, first.interface) == ("127.0.0.1:30000", 2, "*")
    assert (second.weight, second.limit, second.interface) == (3, 50, "a.B")
    assert second.group == "g 1"


def test_a_static_endpoint_serves_the_interface_it_names_or_all() -> None:
    async def scenario() -> None:
        registry = open_registry("static://h:1,h:2?interface=a.B,h:3?interface=a.C")
        assert [each.port for each in registry.watch("a.B").current] == [1, 2]
        assert {each.interface for each in registry.watch("a.B").current} == {"a.B"}
        assert [each.port for each in registry.watch("a.D").current] == [1]
        assert registry.healthy
        await registry.close()

    uvloop.run(scenario())
