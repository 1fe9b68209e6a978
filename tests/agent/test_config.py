"""The agents' configuration: where it comes from, what wins, and how it says no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.agent.config import ConsumerConfig, ProviderConfig, changed, load
from dragoman.errors import UsageError

IFACE = "com.example.IHello"


def consumer(
    *, options: dict[str, Any] | None = None, env: dict[str, str] | None = None, file: Any = None
) -> ConsumerConfig:
    return load(ConsumerConfig, "consumer", options=options or {}, environment=env or {}, file=file)


def provider(env: dict[str, str] | None = None, **options: Any) -> ProviderConfig:
    options.setdefault("interface", [IFACE])
    return load(ProviderConfig, "provider", options=options, environment=env or {})


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_those_that_are_documented() -> None:
    config = consumer()
    assert (config.listen, config.registry) == ("127.0.0.1:20000", "etcd://127.0.0.1:2379")
    assert (config.policy, config.workers, config.timeout_ms) == ("demand", 1, 5000)
    assert (provider().listen, provider().limit, provider().weighs) == ("127.0.0.1:30000", 200, 1)


def test_an_option_beats_a_variable_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        timeout_ms = 1
        queue-max = 1
        workers = 1
        [consumer]
        queue_max = 2
        workers = 2
        drain_ms = 2
        [provider]
        weight = 9
        """,
    )
    config = consumer(
        file=file,
        env={"DRAGOMAN_WORKERS": "3", "DRAGOMAN_DRAIN_MS": "3", "DRAGOMAN_ETCD": "/x"},
        options={"drain_ms": "4", "listen": None},
    )
    assert config.timeout_ms == 1
    assert config.queue_max == 2
    assert config.workers == 3
    assert config.drain_ms == 4
    assert config.head_bytes_max == 16384


def test_a_name_of_former_days_is_read_as_todays(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    for text in ("memory_mb_max = 7", "[consumer]\nmemory-mb-max = 7", "memory_mib_max = 7"):
        file.write_text(text)
        assert consumer(file=file).memory_mib_max == 7
    assert consumer(file=file, env={"DRAGOMAN_MEMORY_MB_MAX": "8"}).memory_mib_max == 8
    both = {"DRAGOMAN_MEMORY_MB_MAX": "8", "DRAGOMAN_MEMORY_MIB_MAX": "9"}
    assert consumer(file=file, env=both).memory_mib_max == 9


def test_one_file_serves_both_agents(tmp_path: Path) -> None:
    file = written(
        tmp_path, f'policy = "p2c"\nweight = 3\n[provider]\ninterface = "{IFACE}"\nlimit = "auto"'
    )
    assert consumer(file=file).policy == "p2c"
    config = load(ProviderConfig, "provider", options={}, environment={}, file=file)
    assert (config.weight, config.interface, config.limit) == (3, (IFACE,), "auto")


def test_a_provider_agent_registers_services_and_not_all_of_them() -> None:
    with pytest.raises(UsageError, match=r"interface '\*': expected one"):
        provider(interface=["a.B", "*"])


def test_calls_of_other_interfaces_are_allowed_by_option_variable_and_file(tmp_path: Path) -> None:
    assert not provider(interface=["a.B"]).allow_any_interface
    assert provider(interface=["a.B"], allow_any_interface=True).allow_any_interface
    environment = {"DRAGOMAN_INTERFACE": "a.B", "DRAGOMAN_ALLOW_ANY_INTERFACE": "true"}
    config = load(ProviderConfig, "provider", options={}, environment=environment)
    assert config.allow_any_interface
    file = written(tmp_path, '[provider]\ninterface = "a.B"\nallow-any-interface = true')
    config = load(ProviderConfig, "provider", options={}, environment={}, file=file)
    assert config.allow_any_interface


def test_a_list_may_be_repeated_or_separated_by_commas() -> None:
    assert provider(interface=["a.B", "a.C"]).interface == ("a.B", "a.C")
    config = load(
        ProviderConfig,
        "provider",
        options={"interface": []},
        environment={"DRAGOMAN_INTERFACE": "a.B, a.C"},
    )
    assert config.interface == ("a.B", "a.C")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_ms": "soon"}, "option --timeout-ms 'soon': expected a whole number"),
        ({"timeout_ms": "0"}, "option --timeout-ms 0: expected int from 1 to 86400000"),
        ({"timeout_ms": "-5"}, "option --timeout-ms '-5': expected a whole number"),
        ({"workers": "257"}, "option --workers 257: expected int from 1 to 256"),
        ({"workers": "\u0663"}, "expected a whole number"),
        ({"workers": "9" * 99}, "expected a whole number"),
        ({"listen": "20000"}, "option --listen '20000': expected host:port"),
        ({"listen": "127.0.0.1:99999"}, "option --listen '127.0.0.1:99999': expected host:port"),
        ({"admin": "x"}, "option --admin 'x': expected host:port"),
        ({"policy": "best"}, "option --policy 'best': expected one of demand, least-active"),
        ({"log_level": "loud"}, "option --log-level 'loud': expected one of debug"),
        ({"registry": "http://x"}, "option --registry: registry 'http://x': expected etcd://"),
    ],
)
def test_a_bad_option_is_one_line_that_names_it(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        consumer(options=options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": "some"}, "option --limit 'some': expected a whole number or auto"),
        ({"limit": "0"}, "option --limit 0: expected int from 1 to 1000000 or auto"),
        ({"limit": "3", "workers": "4"}, "option --limit 3: expected at least one for each of 4"),
        ({"weight": "0"}, "option --weight 0: expected int from 1 to 1000000"),
        ({"provider": "127.0.0.1:0"}, "option --provider '127.0.0.1:0': expected a port"),
        ({"interface": ["a/b"]}, "option --interface: interface 'a/b': expected a name such as"),
        ({"interface": ["a.B", "a.B"]}, "expected each only once"),
        ({"listen": "0.0.0.0:30000"}, "--advertise: expected the address others reach"),
        ({"listen": "127.0.0.1:65535", "workers": "2"}, "option --workers 2: no so many ports"),
    ],
)
def test_a_bad_provider_option_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        provider(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_variable_names_the_variable() -> None:
    with pytest.raises(UsageError, match=r"^DRAGOMAN_TIMEOUT_MS 'x': expected a whole number$"):
        consumer(env={"DRAGOMAN_TIMEOUT_MS": "x"})
    with pytest.raises(UsageError, match=r"^DRAGOMAN_POLICY 'x': expected one of"):
        consumer(env={"DRAGOMAN_POLICY": "x"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timeout_ms = ", "agent.toml: not TOML"),
        ("x = 1\ny 2", "agent.toml: not TOML from line 2, column 3 on"),
        ("timeout = 3", "unknown setting 'timeout' at the top, did you mean timeout_ms?"),
        ("[consumer]\nweight = 3", "unknown setting 'weight' in [consumer]"),
        ("[consumer]\ntimeout_ms = true", "[consumer] timeout_ms True: expected int, got bool"),
        ("[consumer]\nlisten = 5", "[consumer] listen 5: expected str, got int"),
        ("consumer = 3", "expected a table [consumer]"),
    ],
)
def test_a_bad_file_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        consumer(file=written(tmp_path, text))
    assert message in str(caught.value)
    assert "agent.toml" in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.toml: No such file or directory$"):
        consumer(file=tmp_path / "none.toml")


def test_a_missing_interface_names_the_option() -> None:
    with pytest.raises(UsageError, match=r"^--interface is required$"):
        load(ProviderConfig, "provider", options={}, environment={})


def test_no_message_repeats_a_password() -> None:
    for url in ("etcd://u:geheim@:x", "http://u:geheim@h:1", "etcd://u:geheim@h:1,h:1"):
        with pytest.raises(UsageError) as caught:
            consumer(options={"registry": url})
        assert "geheim" not in str(caught.value)


def test_a_provider_registers_each_interface_where_others_reach_it() -> None:
    config = provider(
        interface=["a.B", "a.C"], listen="0.0.0.0:30000", advertise="10.0.0.7:31000", weight="2"
    )
    assert [(each.interface, each.address, each.weight) for each in config.registrations()] == [
        ("a.B", "10.0.0.7:31000", 2),
        ("a.C", "10.0.0.7:31000", 2),
    ]
    assert provider(limit="auto").registrations()[0].limit == 0
    assert provider(listen="127.0.0.1:0").registrations(40000)[0].address == "127.0.0.1:40000"


@pytest.mark.parametrize(
    ("registry", "weight"),
    [("etcd://h:1", 1), ("memory://m", 1), ("zookeeper://h:1", 100), ("nacos://h:1", 100)],
)
def test_a_provider_that_says_no_weight_weighs_as_much_as_the_others(
    registry: str, weight: int
) -> None:
    settings = provider(interface=["a.B"], registry=registry)
    assert [each.weight for each in settings.registrations()] == [weight]
    given = provider(interface=["a.B"], registry=registry, weight="7")
    assert [each.weight for each in given.registrations()] == [7]
    divided = provider(interface=["a.B"], registry=registry, workers="2")
    assert divided.for_worker(0).weighs == max(weight // 2, 1)


def test_provider_workers_divide_port_limit_and_weight() -> None:
    config = provider(
        workers="3", limit="200", weight="4", listen="0.0.0.0:30000", advertise="10.0.0.7:31000"
    )
    parts = [config.for_worker(index) for index in range(3)]
    assert [part.listen for part in parts] == ["0.0.0.0:30000", "0.0.0.0:30001", "0.0.0.0:30002"]
    assert [part.advertise for part in parts] == [f"10.0.0.7:{31000 + i}" for i in range(3)]
    assert [part.limit for part in parts] == [67, 67, 66]
    assert [part.weight for part in parts] == [2, 2, 2]
    assert provider().for_worker(0) == provider()
    assert provider(listen="127.0.0.1:0", workers="2").for_worker(1).listen == "127.0.0.1:0"


def test_a_switch_is_true_or_false_wherever_it_stands() -> None:
    from dragoman.agent.config import _from_text

    assert _from_text(bool, "TRUE", "X") is True
    assert _from_text(bool, "0", "X") is False
    with pytest.raises(UsageError, match="X 'maybe': expected true or false"):
        _from_text(bool, "maybe", "X")


def test_what_differs_from_the_defaults_is_told_without_what_may_be_secret() -> None:
    config = provider(interface=[IFACE, "a.B"], limit="5", registry="etcd://u:secret@h:1")
    assert changed(config) == [("interface", f"{IFACE}, a.B"), ("limit", "5")]
