"""The benchmark of the agents runs small, skips by name, and shows what it found."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.agents import proxies, tables
from benchmarks.agents.bench import Measured, Skipped

ROOT = Path(__file__).parents[2]


def test_it_runs_small(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.agents", "--only", "connections", "--levels", "8"]
    command += ["--duration", "1", "--load", "builtin", "--json", str(path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cost a request, both agents" in done.stdout
    found = json.loads(path.read_text())["connections"][0]
    assert found["errors"] == {}
    assert found["qps"] > 0
    assert set(found["cpu_us_per_request"]) == {"consumer_agent", "provider_agents"}


def test_what_is_not_installed_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Skipped, match="envoy is not installed"):
        proxies.find_envoy()


def test_tables_relate_to_haproxy_and_to_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    def entry(name: str, qps: float, user: float) -> dict[str, Any]:
        cpu_us = {"a": (user, 1.0), "b": (0.0, 1.0)}
        return Measured(name, 256, qps, {}, {"p99": 51.0}, cpu_us).to_dict()

    entries = [entry("dragoman", 90_000, 3.0), entry("HAProxy, one HTTP hop", 50_000, 6.0)]
    latency = [entry("half load", 5000, 1.0) | {"delay_ms": 50.0}]
    memory = {"connections": 5000, "resident_mib": 70.0, "resident_mib_before": 50.0}
    tables.show(
        {"compare": entries, "endpoints": entries, "latency": latency, "memory": memory}
        | {"skipped": {"envoy": "envoy is not installed"}}
    )
    shown = capsys.readouterr().out
    for words in ("1.80", "+60%", "1.00", "70.0 MiB", "skipped envoy: envoy is not installed"):
        assert words in shown
