"""The URLs of Dubbo's registries: what providers of each release write, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError, UsageError
from dragoman.registry import Registration
from dragoman.registry.dubbo_url import (
    Consumer,
    in_order,
    overridden,
    read_override,
    read_provider,
    split_url,
    write_provider,
)

INTERFACE = "com.example.IHello"
OF_26 = (
    "dubbo://10.0.0.7:20880/com.example.IHello?anyhost=true&application=shop&dubbo=2.6.12"
    "&generic=false&interface=com.example.IHello&methods=hash,greet&pid=77&side=provider"
    "&timestamp=1700000000000"
)
OF_27 = (
    "dubbo://10.0.0.7:20880/com.example.IHello?anyhost=true&application=shop&deprecated=false"
    "&dubbo=2.0.2&dynamic=true&generic=false&group=blue&interface=com.example.IHello"
    "&metadata-type=remote&methods=greet,hash&pid=77&release=2.7.23&revision=1.2.0"
    "&serialization=fastjson&side=provider&threads=50&timeout=3000&timestamp=1700000000000"
    "&version=1.2.0&weight=250"
)
OF_33 = (
    "dubbo://10.0.0.7:20880/com.example.IHello?application=shop&background=false&deprecated=false"
    "&dubbo=2.0.2&dynamic=true&executor-management-mode=isolation&file-cache=true&generic=false"
    "&interface=com.example.IHello&methods=greet,hash&pid=77"
    "&prefer.serialization=fastjson2,hessian2&release=3.3.0&service-name-mapping=true"
    "&side=provider&timestamp=1700000000000"
)


def test_a_url_of_each_release_says_what_it_says() -> None:
    old = read_provider(OF_26, INTERFACE)
    assert old.registration == Registration(
        interface=INTERFACE,
        host="10.0.0.7",
        port=20880,
        weight=100,
        limit=200,
        protocol="dubbo",
        serialization="hessian2",
        methods=("greet", "hash"),
        application="shop",
    )
    assert (old.timestamp_ms, old.disabled) == (1700000000000, False)
    middle = read_provider(OF_27, INTERFACE).registration
    assert (middle.group, middle.version, middle.release) == ("blue", "1.2.0", "2.7.23")
    assert (middle.limit, middle.weight, middle.timeout_ms) == (50, 250, 3000)
    assert middle.serialization == "fastjson"
    new = read_provider(OF_33, INTERFACE).registration
    # Of those that it takes, the one that costs us least.
    assert (new.serialization, new.release) == ("hessian2", "3.3.0")


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ("&version=0.0.0", "version", ""),
        ("&serialization=kryo", "serialization", "kryo"),
        ("&prefer.serialization=fst,kryo", "serialization", "fst"),
        ("&weight=5000000", "weight", 1_000_000),
        ("&threads=0", "limit", 200),
        ("&limit=7&threads=9", "limit", 7),
        ("&methods=*", "methods", ()),
        ("&weight=1&weight=2", "weight", 2),
        ("&weight=+5", "weight", 5),
        ("&token=a%20b", "token", "a%20b"),
        ("&token=a%2526b+c", "token", "a%2526b+c"),
        ("&token=pä÷ß€", "token", "pä÷ß€"),
        ("&token=a=b=c", "token", "a=b=c"),
        ("&token=a?b@c://d/e#f", "token", "a?b@c://d/e#f"),
        ("&token=a&token=", "token", ""),
        ("&=x&&token=a&", "token", "a"),
        ("&timeout=5&hash.timeout=7&default.hash.timeout=8", "timeout_ms", 5),
        ("&default.timeout=6&hash.default.timeout=8&default.default.timeout=9", "timeout_ms", 6),
        ("&group=*&version=1.0,2.0", "group", "*"),
        ("&side=&category=&interface=&enabled=&disabled=&protocol=", "weight", 100),
        ("&limit=&threads=9&weight=&timeout=&timestamp=", "limit", 9),
        ("&group=a,b&version=1.0,2.0", "version", "1.0,2.0"),
        # Java's consumers use none of these unless they must choose, and a call needs none.
        ("&weight=heavy", "weight", 100),
        ("&weight= 5", "weight", 100),
        ("&weight=5.0", "weight", 100),
        ("&weight=heavy&default.weight=7", "weight", 100),
        ("&timeout=3s", "timeout_ms", 0),
        ("&threads=many", "limit", 200),
        ("&limit=" + "9" * 30, "limit", 200),
        ("&application=" + "x" * 300, "application", "x" * 256),
        ("&release=" + "x" * 300, "release", "x" * 256),
        ("&methods=a," + "x" * 300, "methods", ("a",)),
        ("&methods=" + ",".join(f"aMethodOfALongName{i}" for i in range(900)), "protocol", "dubbo"),
    ],
)
def test_a_parameter_means(more: str, field: str, value: object) -> None:
    assert getattr(read_provider(OF_26 + more, INTERFACE).registration, field) == value


def test_a_timestamp_that_is_no_time_is_none(caplog: pytest.LogCaptureFixture) -> None:
    assert read_provider(OF_26 + "&timestamp=" + "9" * 30, INTERFACE).timestamp_ms == 0
    assert len(caplog.records) == 1 and "expected a number" in caplog.text


@pytest.mark.parametrize("more", ["&disabled=true", "&enabled=false", "&weight=0"])
def test_a_provider_that_is_to_be_given_nothing_is_disabled(more: str) -> None:
    assert read_provider(OF_26 + more, INTERFACE).disabled


def test_another_protocol_is_read_and_one_port_may_speak_dubbo_too() -> None:
    tri = OF_33.replace("dubbo://", "tri://")
    assert read_provider(tri, INTERFACE).registration.protocol == "tri"
    both = tri + "&ext.protocol=dubbo,"
    assert read_provider(both, INTERFACE).registration.protocol == "dubbo"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "expected protocol://host:port"),
        ("nothing", "expected protocol://host:port"),
        ("dubbo://10.0.0.7/com.example.IHello", "expected host:port"),
        ("dubbo://10.0.0.7:99999/com.example.IHello", "expected a port from 1 to 65535"),
        ("dubbo://10.0.0.7:0/com.example.IHello", "expected host:port"),
        (OF_26.replace("IHello", "IOther"), "expected a provider of com.example.IHello"),
        (OF_26 + "&side=consumer", "expected the URL of a provider"),
        (OF_26 + "&category=routers", "expected the URL of a provider"),
        (OF_26 + "&group=" + "x" * 300, "group"),
        (OF_26 + "&x=" + "x" * 70000, "expected at most 65536"),
        ("wei rd://10.0.0.7:1/com.example.IHello", "protocol"),
    ],
)
def test_a_malformed_url_is_one_clear_line(url: str, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_provider(url, INTERFACE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_message_repeats_what_may_be_a_secret() -> None:
    with pytest.raises(ProtocolError) as caught:
        said = "token=geheim&group=" + "g" * 257
        read_provider(f"dubbo://me:geheim@h:1/com.example.IHello?{said}", INTERFACE)
    assert "geheim" not in str(caught.value)


names = st.text("abcXYZ019._-", min_size=1, max_size=20)


@given(
    weight=st.integers(1, 1_000_000),
    limit=st.integers(0, 1_000_000),
    group=st.one_of(st.just(""), names),
    # 0.0.0 is Dubbo's word for none.
    version=st.one_of(st.just(""), names).filter(lambda version: version != "0.0.0"),
    methods=st.lists(names, max_size=5),
    timeout_ms=st.integers(0, 86_400_000),
    protocol=st.sampled_from(["dubbo", "mesh", "rpc"]),
    host=st.sampled_from(["10.0.0.7", "provider.example.com", "::1"]),
)
def test_what_is_written_is_read_back(
    weight: int,
    limit: int,
    group: str,
    version: str,
    methods: list[str],
    timeout_ms: int,
    protocol: str,
    host: str,
) -> None:
    registration = Registration(
        interface=INTERFACE,
        host=host,
        port=20880,
        weight=weight,
        limit=limit,
        protocol=protocol,
        serialization="hessian2",
        group=group,
        version=version,
        zone="east",
        methods=tuple(sorted(set(methods))),
        timeout_ms=timeout_ms,
        application="shop",
        release="3.3.0",
    )
    read = read_provider(write_provider(registration, timestamp_ms=12, pid=3), INTERFACE)
    assert read == (registration, 12, False)


@given(st.text(max_size=200))
def test_any_text_is_a_provider_or_a_clear_error(text: str) -> None:
    for url in (text, f"dubbo://10.0.0.7:1/{INTERFACE}?{text}"):
        try:
            read_provider(url, INTERFACE)
        except ProtocolError as error:
            assert str(error)


def test_java_consumers_find_what_they_look_for() -> None:
    registration = Registration(
        interface=INTERFACE,
        host="10.0.0.7",
        port=20880,
        weight=100,
        protocol="dubbo",
        serialization="hessian2",
        methods=("greet",),
    )
    url = write_provider(registration, timestamp_ms=12, pid=3)
    for each in (
        "dubbo://10.0.0.7:20880/com.example.IHello?",
        "&interface=com.example.IHello&",
        "&methods=greet&",
        "&dubbo=2.0.2&",
        "&release=2.7.0&",
        "&side=provider&",
        "&serialization=hessian2&",
        "anyhost=true&",
        "&timestamp=12&",
        "&application=dragoman&",
    ):
        assert each in url
    assert "version=" not in url and "group=" not in url


def test_what_a_url_cannot_say_is_refused() -> None:
    registration = Registration(interface=INTERFACE, host="h", port=1, group="a&b=c")
    with pytest.raises(UsageError, match="group"):
        write_provider(registration, timestamp_ms=1, pid=1)


@pytest.mark.parametrize(
    ("place", "host"),
    [
        ("::1:20880", "::1"),
        ("[::1]:20880", "::1"),
        ("fe80::1%eth0:20880", "fe80::1%eth0"),
        ("[fe80::1%eth0]:20880", "fe80::1%eth0"),
        ("fe80:0:0:0:894:aeec:f37d:23e1%en0:20880", "fe80:0:0:0:894:aeec:f37d:23e1%en0"),
        ("user:secret@::1:20880", "::1"),
    ],
)
def test_an_ipv6_address_needs_no_brackets_and_may_have_a_scope(place: str, host: str) -> None:
    found = read_provider(f"dubbo://{place}/{INTERFACE}?side=provider", INTERFACE).registration
    assert (found.host, found.port) == (host, 20880)


@pytest.mark.parametrize(
    "place", ["fe80::1%eth0", "::1", "1::2::3:20880", ":::1:20880", "[::1:20880", "%eth0:20880"]
)
def test_what_is_no_address_with_a_port_is_refused(place: str) -> None:
    with pytest.raises(ProtocolError, match="expected host:port"):
        read_provider(f"dubbo://{place}/{INTERFACE}", INTERFACE)


@pytest.mark.parametrize(
    ("path", "named", "found"),
    [
        (INTERFACE, "", ""),
        (INTERFACE, INTERFACE, ""),
        ("custom/path", INTERFACE, "custom/path"),
        (f"ctx/{INTERFACE}", INTERFACE, f"ctx/{INTERFACE}"),
        (f"ctx/{INTERFACE}", "", f"ctx/{INTERFACE}"),
        ("/x", INTERFACE, "x"),
        ("x/", INTERFACE, "x/"),
        ("", INTERFACE, ""),
        (f"/shop//a%20b/%2525/{INTERFACE}", INTERFACE, f"shop//a%20b/%2525/{INTERFACE}"),
        (f"a/b/c/{INTERFACE}/", INTERFACE, f"a/b/c/{INTERFACE}/"),
    ],
)
def test_the_path_is_kept_where_it_is_not_the_interface(path: str, named: str, found: str) -> None:
    said = f"?interface={named}" if named else ""
    read = read_provider(f"dubbo://h:1/{path}{said}", INTERFACE).registration
    assert (read.interface, read.path) == (INTERFACE, found)
    if found:
        url = write_provider(read, timestamp_ms=1, pid=1)
        assert read_provider(url, INTERFACE).registration.path == found


def test_what_only_a_default_says_holds_for_every_parameter() -> None:
    said = (
        "&default.weight=5&default.timeout=700&default.token=t&default.group=g&default.version=2"
        "&default.threads=9&default.serialization=fastjson&default.disabled=true&default.zone=z"
    )
    read = read_provider(OF_26 + said, INTERFACE)
    one = read.registration
    assert (one.weight, one.timeout_ms, one.token, one.group) == (5, 700, "t", "g")
    assert (one.version, one.limit, one.serialization, one.zone) == ("2", 9, "fastjson", "z")
    assert read.disabled
    both = read_provider(OF_26 + "&default.weight=5&weight=6&default.group=g&group=", INTERFACE)
    assert (both.registration.weight, both.registration.group) == (6, "g")


def test_a_token_is_read_written_and_shown_nowhere() -> None:
    one = read_provider(OF_26 + "&token=sesame", INTERFACE).registration
    assert one.token == "sesame"
    assert "token=sesame" in write_provider(one, timestamp_ms=1, pid=1)
    assert "sesame" not in repr(one) and "sesame" not in str(one.plain())
    with pytest.raises(ProtocolError) as caught:
        read_provider(OF_26 + "&token=ses\name", INTERFACE)
    assert "name" not in str(caught.value).replace("token", "").replace("host name", "")
    with pytest.raises(UsageError) as refused:
        write_provider(
            Registration(interface=INTERFACE, host="h", port=1, token="a&b"), timestamp_ms=1, pid=1
        )
    assert "a&b" not in str(refused.value)


# What Java 2.7.23's own OverrideConfigurator and AbsentConfigurator make of a provider of weight
# 50, zone a and application shop, for a consumer of the application caller at 10.9.9.9.
SEEN = (
    f"dubbo://10.0.0.7:20880/{INTERFACE}?interface={INTERFACE}&application=shop&side=provider"
    "&zone=a&weight=50&methods=x&timeout=9"
)


@pytest.mark.parametrize(
    ("override", "weight"),
    [
        ("0.0.0.0?weight=7", 7),
        ("10.0.0.7:20880?weight=7", 7),
        ("10.0.0.7:20881?weight=7", 50),
        ("10.0.0.8:20880?weight=7", 50),
        ("0.0.0.0:20880?weight=7", 7),
        # Without a port it is the consumer's host.
        ("10.0.0.7?weight=7", 50),
        ("10.9.9.9?weight=7", 7),
        ("0.0.0.0?weight=7&application=caller", 7),
        ("0.0.0.0?weight=7&application=*", 7),
        ("0.0.0.0?weight=7&application=", 50),
        ("0.0.0.0?weight=7&application=shop", 50),
        ("caller@0.0.0.0?weight=7", 7),
        ("shop@0.0.0.0?weight=7", 50),
        ("10.0.0.7:20880?weight=7&application=shop", 50),
        ("0.0.0.0?weight=7&side=consumer", 7),
        ("0.0.0.0?weight=7&side=provider", 50),
        ("0.0.0.0?weight=7&side=*", 7),
        ("0.0.0.0?weight=7&~zone=a", 7),
        ("0.0.0.0?weight=7&~zone=b", 50),
        ("0.0.0.0?weight=7&~zone=*", 7),
        ("0.0.0.0?weight=7&~nothing=b", 50),
        ("0.0.0.0?weight=7&~nothing=", 50),
        ("0.0.0.0?weight=7&~remote.application=shop", 7),
        ("0.0.0.0?weight=7&~methods=x&~zone=a", 7),
        ("0.0.0.0?weight=7&~methods=x&~zone=b", 50),
        ("0.0.0.0?weight=7&configVersion=v2.7&side=consumer", 7),
        ("0.0.0.0?weight=7&configVersion=v2.7&side=provider", 50),
        ("0.0.0.0?weight=7&configVersion=v2.7", 50),
        ("0.0.0.0?weight=7&providerAddresses=10.0.0.7:20880", 7),
        ("0.0.0.0?weight=7&providerAddresses=10.0.0.8:20880", 50),
        ("0.0.0.0?default.weight=7", 7),
        ("0.0.0.0?weight=7&group=blue", 50),
        ("0.0.0.0?weight=7&version=2.0.0", 50),
    ],
)
def test_an_override_concerns_whom_it_concerns_in_java(override: str, weight: int) -> None:
    place, _, said = override.partition("?")
    read = read_override(f"override://{place}/{INTERFACE}?category=configurators&{said}")
    assert read is not None
    consumer = Consumer("caller", frozenset(["10.9.9.9"]))
    provider = read_provider(SEEN, INTERFACE)
    changed = overridden(provider, [read], consumer, split_url(SEEN))
    assert (changed.registration.weight, changed.disabled) == (weight, False)
    if weight == 50:
        assert changed == provider


@pytest.mark.parametrize("said", ["disabled=true", "disabled=TRUE", "weight=0", "weight=-5"])
def test_an_override_takes_a_provider_out(said: str) -> None:
    out = read_override(f"override://0.0.0.0/{INTERFACE}?{said}")
    assert out is not None
    assert overridden(read_provider(OF_26, INTERFACE), [out]).disabled


def test_overrides_change_what_is_looked_at_and_the_later_wins() -> None:
    provider = read_provider(OF_26 + "&disabled=true", INTERFACE)
    assert provider.disabled
    read = [
        read_override(f"{scheme}/{INTERFACE}?{said}")
        for scheme, said in (
            ("override://10.0.0.7:20880", "weight=3&token=t"),
            ("override://0.0.0.0", "weight=2&disabled=false&priority=1"),
            ("override://0.0.0.0", "weight=4&timeout=70&serialization=fastjson&priority=2"),
            ("absent://0.0.0.0", "zone=z&weight=9"),
        )
    ]
    changed = overridden(provider, in_order(each for each in read if each is not None))
    one = changed.registration
    assert (one.weight, one.timeout_ms, one.serialization, one.zone) == (3, 70, "fastjson", "z")
    assert not changed.disabled
    # Of absent:// only what nobody has said.
    absent = read_override(f"absent://0.0.0.0/{INTERFACE}?timeout=5&weight=9")
    assert absent is not None
    with_weight = read_provider(SEEN, INTERFACE)
    assert overridden(with_weight, [absent]).registration == with_weight.registration


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("override://0.0.0.0/x?weight=x", "expected a number"),
        ("override://0.0.0.0/x?timeout=1e3", "expected a number"),
        ("override:///x?weight=1", "expected host:port"),
        ("override://a b/x?weight=1", "expected host:port"),
        ("override://0.0.0.0:99999/x?weight=1", "expected a port"),
        ("override://[::1/x?weight=1", "expected host:port"),
        ("nothing at all", "expected protocol://"),
    ],
)
def test_a_malformed_override_is_one_clear_line(url: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        read_override(url)


def test_an_override_that_is_off_or_about_something_else_is_none() -> None:
    for url in (
        f"override://0.0.0.0/{INTERFACE}?loadbalance=random",
        f"override://0.0.0.0/{INTERFACE}?disabled=true&enabled=false",
        f"override://0.0.0.0/{INTERFACE}?disabled=true&enabled=maybe",
        f"absent://0.0.0.0/{INTERFACE}",
        f"condition://0.0.0.0/{INTERFACE}?weight=1",
    ):
        assert read_override(url) is None


@given(st.text(max_size=200))
def test_any_text_is_an_override_or_a_clear_error(text: str) -> None:
    provider = read_provider(OF_26, INTERFACE)
    for url in (text, f"override://0.0.0.0/x?weight=5&{text}", f"override://{text}?weight=1"):
        try:
            read = read_override(url)
        except ProtocolError as error:
            assert str(error)
        else:
            assert overridden(provider, [] if read is None else [read])
