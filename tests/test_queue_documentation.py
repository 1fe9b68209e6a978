"""``docs/queue.md`` shows what happens: its examples and commands are run, what they print is
compared; its tables are compared with the code. See ``test_documentation`` for the conventions.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman import errors
from dragoman.broker.nats_names import REPLICAS_MAX
from dragoman.cli.queue import queue as commands
from dragoman.queue import MessageStore, QueueStore
from dragoman.queue.api.arguments import GROUP_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX
from tests.broker.nats_servers import PROGRAM, NatsServer
from tests.test_documentation import (
    COMMAND,
    ROOT,
    Example,
    blocks,
    examples,
    run_program,
    run_prompt,
    serving,
)

PAGE = ROOT / "docs" / "queue.md"
TEXT = PAGE.read_text()


def is_server(example: Example) -> bool:
    return "serve_forever()" in example.source


def test_every_example_of_the_queue_page_does_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = [each for each in examples(TEXT) if each.program != COMMAND]
    assert len(page) > 8
    with contextlib.ExitStack() as beside:
        for example in page:
            if example.program and is_server(example):
                beside.enter_context(serving(example, tmp_path))
        for example in page:
            if example.program and not is_server(example):
                run_program(example, tmp_path)
        typed = [each for each in page if not each.program]
        for example in list(typed):
            url = re.search(r"nats://127\.0\.0\.1:(\d+)", example.source)
            if url is None:
                continue
            if PROGRAM is None:
                typed.remove(example)
                continue
            server = NatsServer(tmp_path, 0, int(url[1]), [], 0)
            server.start()
            beside.callback(server.kill)
        run_prompt(typed)


@pytest.mark.parametrize(("page", "least"), [("docs/queue.md", 8), ("README.md", 2)])
def test_every_command_of_a_page_prints_what_the_page_says(
    tmp_path: Path, page: str, least: int
) -> None:
    shim = tmp_path / "bin" / "dragoman"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m dragoman "$@"\n')
    shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    ran = 0
    for line, kind, content in blocks((ROOT / page).read_text()):
        if kind != "console" or "dragoman queue" not in content:
            continue
        for piece in re.split(r"^\$ ", content, flags=re.M)[1:]:
            command, _, printed = piece.partition("\n")
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=30,
            )
            assert (done.stdout, done.returncode) == (printed, 0), f"line {line}: {command}"
            ran += 1
    assert ran >= least


def test_every_command_is_listed() -> None:
    listed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ", TEXT[TEXT.index("| command | |") :], re.M)
    named = {name for cell in listed for name in re.findall(r"`(\w+)`", cell)}
    known = {command.name for command in commands.registered_commands}
    assert known <= named


def test_every_method_of_a_store_is_named() -> None:
    methods = {name for name in vars(MessageStore) if not name.startswith("_")}
    missing = {name for name in methods if not re.search(rf"\b{name}\b", TEXT)}
    assert missing <= {"committed"}, missing


def test_options_that_the_page_names_exist() -> None:
    options = inspect.signature(QueueStore).parameters
    for name in re.findall(r"^\| `(retention_\w+)` \|", TEXT, re.M):
        assert name in options
    for name in ("memory_bytes", "expected_queues", "read_only", "compact_below", "segment_bytes"):
        assert name in TEXT and name in options
    assert options["durability"].default == "interval(100)"
    assert options["memory_bytes"].default == 1_400_000_000


def test_errors_that_the_page_names_exist() -> None:
    table = TEXT[TEXT.index("| error | when |") :].split("\n\n")[0]
    names = re.findall(r"`(\w+Error|LinkLostError)`", table)
    assert len(names) >= 8
    for name in names:
        assert issubclass(getattr(errors, name), errors.DragomanError)


def test_limits_that_the_page_names_are_those_of_the_code() -> None:
    assert (NAME_BYTES_MAX, GROUP_BYTES_MAX, MESSAGE_BYTES_MAX) == (65536, 1024, 16 << 20)
    assert f"replicas=1 to {REPLICAS_MAX}" in TEXT
