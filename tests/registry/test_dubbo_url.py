"""The URLs of Dubbo's registries: what providers of each release write, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError, UsageError
from dragoman.registry import Registration
from dragoman.registry.dubbo_url import overridden, read_override, read_provider, write_provider

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
    ],
)
def test_a_parameter_means(more: str, field: str, value: object) -> None:
    assert getattr(read_provider(OF_26 + more, INTERFACE).registration, field) == value


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
        (OF_26 + "&weight=heavy", "weight=heavy: expected a number"),
        (OF_26 + "&timestamp=" + "9" * 30, "expected a number"),
        (OF_26.replace("IHello", "IOther"), "expected a provider of com.example.IHello"),
        (OF_26 + "&side=consumer", "expected the URL of a provider"),
        (OF_26 + "&category=routers", "expected the URL of a provider"),
        (OF_26 + "&group=" + "x" * 300, "group"),
        (OF_26 + "&x=" + "x" * 20000, "expected at most 16384"),
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
        read_provider("dubbo://me:geheim@h:1/com.example.IHello?token=geheim&weight=x", INTERFACE)
    assert "geheim" not in str(caught.value)


names = st.text("abcXYZ019._-", min_size=1, max_size=20)


@given(
    weight=st.integers(1, 1_000_000),
    limit=st.integers(0, 1_000_000),
    group=st.one_of(st.just(""), names),
    version=st.one_of(st.just(""), names),
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


def test_overrides_change_weight_and_take_out() -> None:
    provider = read_provider(OF_26, INTERFACE)
    for host in ("0.0.0.0", "10.0.0.7", "10.0.0.7:20880"):
        lighter = read_override(f"override://{host}/{INTERFACE}?category=configurators&weight=5")
        assert lighter is not None
        assert overridden(provider, [lighter]).registration.weight == 5
    for more in ("disabled=true", "weight=0"):
        out = read_override(f"override://10.0.0.7/{INTERFACE}?{more}")
        assert out is not None
        assert overridden(provider, [out]).disabled
    for url in (
        f"override://10.0.0.8/{INTERFACE}?disabled=true",
        f"override://10.0.0.7:20881/{INTERFACE}?disabled=true",
        f"override://0.0.0.0/{INTERFACE}?disabled=true&group=blue",
        f"override://0.0.0.0/{INTERFACE}?disabled=true&version=2.0.0",
    ):
        other = read_override(url)
        assert other is not None
        assert overridden(provider, [other]) == provider
    assert read_override(f"override://0.0.0.0/{INTERFACE}?timeout=5") is None
    assert read_override(f"override://0.0.0.0/{INTERFACE}?disabled=true&enabled=false") is None
    assert read_override(f"absent://0.0.0.0/{INTERFACE}") is None
    with pytest.raises(ProtocolError, match="expected a number"):
        read_override(f"override://0.0.0.0/{INTERFACE}?weight=x")
