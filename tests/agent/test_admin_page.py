"""``docs/admin.md`` names every metric of the agents, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from dragoman.agent.consumer_metrics import SERVICE_COUNTERS
from dragoman.registry.report import _HELP

ROOT = Path(__file__).parent.parent.parent
ADDED = re.compile(r"\.(?:counter|gauge|histogram)\(\s*\"(dragoman_[a-z_]+)\"")
NAMED = re.compile(r"`(dragoman_[a-z_]+)`")
STATUS = re.compile(r"^            \"([a-z_]+)\": ", re.MULTILINE)
SOURCES = ("consumer", "consumer_metrics", "provider", "worker", "worker_pool", "supervisor")


def source(name: str) -> str:
    return (ROOT / "src/dragoman/agent" / f"{name}.py").read_text()


def test_every_metric_is_told_and_no_other() -> None:
    made = {f"dragoman_registry_{name}" for name in _HELP}
    for name in SOURCES:
        made.update(ADDED.findall(source(name)))
    made.update(name for name, _, _ in SERVICE_COUNTERS)
    assert len(made) > 40
    assert set(NAMED.findall((ROOT / "docs/admin.md").read_text())) == made


def test_every_field_of_the_status_is_told() -> None:
    fields = {"index", "restarts"}
    for name in ("consumer", "provider", "supervisor"):
        text = source(name)
        fields.update(STATUS.findall(text[text.index("async def status") :]))
    assert {"workers", "services", "serialization_why"} <= fields
    page = (ROOT / "docs/admin.md").read_text()
    assert [each for each in sorted(fields) if f"`{each}`" not in page] == []
