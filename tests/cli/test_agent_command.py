"""``dragoman agent``: its options reach the configuration, and its errors are one line."""

from __future__ import annotations

import sys
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from dragoman.agent import runtime
from dragoman.agent.config import AgentConfig, ConsumerConfig, ProviderConfig
from dragoman.cli import agent
from dragoman.cli.main import build, run


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[AgentConfig]:
    """The configurations that agents were run with, instead of running them."""
    configs: list[AgentConfig] = []

    def record(config: AgentConfig) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(runtime, "run", record)
    return configs


def dragoman(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["dragoman", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    return caught.value.code


def test_options_variables_and_file_reach_the_configuration(
    monkeypatch: pytest.MonkeyPatch, ran: list[AgentConfig], tmp_path: Any
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[provider]\nweight = 2\ngroup = 'g'")
    monkeypatch.setenv("DRAGOMAN_CONFIG", str(file))
    monkeypatch.setenv("DRAGOMAN_WEIGHT", "3")
    arguments = ["--interface", "a.B", "--interface", "a.C", "--limit", "auto"]
    assert dragoman(monkeypatch, "agent", "provider", *arguments) == 0
    (config,) = ran
    assert isinstance(config, ProviderConfig)
    assert (config.interface, config.limit) == (("a.B", "a.C"), "auto")
    assert (config.weight, config.group) == (3, "g")


@pytest.mark.parametrize("option", ["--memory-mib-max", "--memory-mb-max"])
def test_an_option_of_former_days_is_understood(
    monkeypatch: pytest.MonkeyPatch, ran: list[AgentConfig], option: str
) -> None:
    assert dragoman(monkeypatch, "agent", "consumer", option, "7") == 0
    assert [config.memory_mib_max for config in ran] == [7]


@pytest.mark.parametrize(
    "arguments",
    [
        ("agent", "consumer", "--timeout-ms", "x"),
        ("agent", "consumer", "--no-such-option", "x"),
        ("agent", "consumer", "--listen"),
        ("agent", "consumer", "--config", "/no/such/file.toml"),
        ("agent", "provider"),
        ("agent", "nobody"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    ran: list[AgentConfig],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    assert dragoman(monkeypatch, *arguments) == 2
    assert ran == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dragoman: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "kind"), [(agent.consumer, ConsumerConfig), (agent.provider, ProviderConfig)]
)
def test_every_setting_has_an_option_and_every_option_a_setting(
    command: Any, kind: type[AgentConfig]
) -> None:
    options = set(get_type_hints(command)) - {"return", "config"}
    assert options == set(kind.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "kind"), [("consumer", ConsumerConfig), ("provider", ProviderConfig)]
)
def test_the_help_shows_the_real_defaults(name: str, kind: Any) -> None:
    result = CliRunner().invoke(build(), ["agent", name, "--help"], env={"COLUMNS": "500"})
    text = " ".join(result.output.split())
    for field, default in zip(
        reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False
    ):
        # A flag is off unless it is given, which needs no words.
        if type(default) in (str, int) and default != "":
            option = text.partition(f"--{field.replace('_', '-')} ")[2].partition(" │ ")[0]
            assert f"[default: {default}]" in option, field


def test_help_and_no_arguments_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(build(), typer.Typer)
    assert dragoman(monkeypatch, "agent", "consumer", "--help") == 0
    assert dragoman(monkeypatch, "agent") == 2
