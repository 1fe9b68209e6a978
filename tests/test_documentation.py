"""``docs/rpc.md`` and README show what happens: their examples are run, and what they print is
compared; tables are compared with the code.

A block of Python that begins with ``# name.py`` is a file; those that stop only when told (they
serve) run beside the rest. All other blocks continue one another, as they would at the
prompt of ``python -m asyncio``. A block of ``text`` is what the block before it prints.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import inspect
import io
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from dragoman import cluster, dubbo, rpc
from dragoman.rpc.address import Address
from dragoman.rpc.limits import Limits
from dragoman.rpc.options import ServerOptions

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "rpc.md"
SDK = ROOT / "docs" / "sdk.md"
BLOCK = re.compile(r"^```(python|text|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Of a server: in an address, or behind the services that it serves.
PORT = re.compile(r"(127\.0\.0\.1:|\(\), )(70\d\d)")
# The program of an example that is a command line.
COMMAND = "dragoman"
WAIT_S = 10


@dataclasses.dataclass
class Example:
    """A block of Python, the file's name if it is a program, and what it prints."""

    line: int
    source: str
    program: str | None
    printed: str = ""

    @property
    def serves(self) -> bool:
        """Whether it runs until it is told to stop."""
        if "dubbo.run(" in self.source:
            return True
        return "rpc.serve(" in self.source and "rpc.connect" not in self.source


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    for found in BLOCK.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, found[1], found[2]


def examples(text: str) -> list[Example]:
    """The examples of a page, with the free ports of this run instead of 7000, 7001, ..."""
    ports: dict[str, int] = {}

    def port(found: re.Match[str]) -> str:
        if found[2] not in ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports[found[2]] = free.getsockname()[1]
        return f"{found[1]}{ports[found[2]]}"

    made: list[Example] = []
    for line, kind, content in blocks(text):
        if kind == "text":
            made[-1].printed = content
        elif kind == "python":
            name = re.match(r"# (\w+\.py)\n", content)
            source = PORT.sub(port, content)
            made.append(Example(line, source, name[1] if name else None))
        elif content.startswith("$ dragoman "):
            command, _, printed = PORT.sub(port, content).partition("\n")
            made.append(Example(line, command.removeprefix("$ dragoman "), COMMAND, printed))
    return made


@contextlib.contextmanager
def serving(program: Example, place: Path) -> Iterator[None]:
    """The server of an example, in a process of its own; SIGTERM or Ctrl-C stop it."""
    address = re.search(r'(?:"127\.0\.0\.1:|\(\), )(\d+)', program.source)
    assert address is not None
    with start(program, place) as process:
        try:
            until = time.monotonic() + WAIT_S
            while True:
                assert process.poll() is None, process.communicate()[0]
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", int(address[1]))).close()
                    break
                assert time.monotonic() < until, "it does not listen"
                time.sleep(0.01)
            yield
        finally:
            drains = "SIGTERM" in program.source or "dubbo.run(" in program.source
            process.send_signal(signal.SIGTERM if drains else signal.SIGINT)
            out, _ = process.communicate(timeout=WAIT_S)
    assert not drains or process.returncode == 0, out


def start(program: Example, place: Path) -> subprocess.Popen[str]:
    assert program.program is not None
    if program.program == COMMAND:
        command = ["-m", "dragoman", *shlex.split(program.source)]
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    file = place / program.program
    file.write_text(program.source)
    return subprocess.Popen(
        [sys.executable, file],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_program(program: Example, place: Path) -> None:
    with start(program, place) as process:
        out, _ = process.communicate(timeout=WAIT_S)
    assert (out, process.returncode) == (program.printed, 0), f"line {program.line}"


def run_prompt(typed: list[Example]) -> None:
    """Run examples that continue one another on one loop, as the prompt would."""
    names: dict[str, Any] = {"__name__": "__main__"}

    async def main() -> None:
        for example in typed:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                for statement in ast.parse(example.source).body:
                    await run_statement(statement, names, example.line)
            assert printed.getvalue() == example.printed, f"line {example.line}"
        for name in list(names.values()):
            if isinstance(name, rpc.Client | rpc.Server | dubbo.Client | dubbo.Server):
                await name.close(drain_ms=0)

    asyncio.run(main())


async def run_statement(statement: ast.stmt, names: dict[str, Any], line: int) -> None:
    tree = ast.fix_missing_locations(ast.Interactive([statement]))
    code = compile(
        tree, f"<line {line}>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    if code.co_flags & inspect.CO_COROUTINE:
        await FunctionType(code, names)()
    else:
        exec(code, names)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_every_example_of_the_rpc_page_does_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PAGE.read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for _, kind, content in blocks(text):
        if kind == "console":
            command = shlex.split(content.removeprefix("$ "))
            subprocess.run(command, check=True, capture_output=True)
    page = examples(text)
    with contextlib.ExitStack() as beside:
        for example in page:
            if example.program and example.serves:
                beside.enter_context(serving(example, tmp_path))
        for example in page:
            if example.program and not example.serves:
                run_program(example, tmp_path)
        run_prompt([example for example in page if not example.program])


def test_every_example_of_the_sdk_page_does_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = examples(SDK.read_text())
    with contextlib.ExitStack() as beside:
        for example in page:
            if example.program and example.serves:
                beside.enter_context(serving(example, tmp_path))
        for example in page:
            if example.program and not example.serves:
                run_program(example, tmp_path)
        assert sum(example.program == COMMAND for example in page) == 1
        run_prompt([example for example in page if not example.program])


def test_the_rpc_examples_of_the_readme_do_what_it_says(tmp_path: Path) -> None:
    page = examples((ROOT / "README.md").read_text())
    page = [each for each in page if each.program not in (None, COMMAND)]
    assert page
    for example in page:
        run_program(example, tmp_path)


TYPED = [each for page in (PAGE, SDK) for each in examples(page.read_text()) if not each.program]


@pytest.mark.parametrize("source", [pytest.param(e.source, id=f"line {e.line}") for e in TYPED])
def test_examples_can_be_pasted_at_a_prompt(source: str) -> None:
    """At a prompt an empty line ends a block, and nothing else does."""
    lines = source.splitlines()
    depth = 0
    for before, line in zip(lines, [*lines[1:], ""], strict=True):
        depth += sum(map(before.count, "([{")) - sum(map(before.count, ")]}"))
        if not before:
            assert not line.startswith(" ") or depth
        clause = line.startswith((" ", "except", "else", "finally", ")"))
        if before.startswith(" ") and not depth:
            assert not line or clause, f"no empty line before {line!r}"


def rows(header: str, page: Path = PAGE) -> list[list[str]]:
    """The cells of the table of the page whose first line begins with ``header``."""
    text = page.read_text()
    table = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("header", "function"),
    [
        ("| option of connect |", rpc.connect),
        ("| option of connect |", rpc.connect_sync),
        ("| option of serve |", rpc.serve),
    ],
)
def test_every_option_is_listed_with_its_default(header: str, function: Callable[..., Any]) -> None:
    listed = {row[0].strip("`"): ast.literal_eval(row[1]) for row in rows(header)}
    assert listed == options_of(function)


def test_a_pool_has_the_defaults_of_a_client() -> None:
    client, pool = options_of(rpc.connect), options_of(cluster.connect)
    assert set(client) - set(pool) == {"reconnect"}
    assert {name: pool[name] for name in client if name in pool} == {
        name: default for name, default in client.items() if name in pool
    }


@pytest.mark.parametrize(
    ("header", "function"),
    [("| option of Client |", dubbo.Client), ("| option of serve |", dubbo.serve)],
)
def test_every_option_of_the_sdk_is_listed_with_its_default(
    header: str, function: Callable[..., Any]
) -> None:
    listed = {row[0].strip("`"): ast.literal_eval(row[1]) for row in rows(header, SDK)}
    assert listed == options_of(function)


def test_every_error_of_the_sdk_is_listed_with_whether_it_is_safe_to_retry() -> None:
    listed = {re.findall(r"`(\w+)`", row[0])[0]: row[2] for row in rows("| error | when |", SDK)}
    assert {name: re.split(r"\W", cell)[0] for name, cell in listed.items()} == {
        name: "yes" if getattr(dubbo, name).retry_safe else "no" for name in listed
    }


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("| option of connect |", Limits),
        ("| option of serve |", partial(ServerOptions, Address(host="localhost", port=1))),
    ],
)
def test_what_options_may_be_is_listed(header: str, kind: Callable[..., object]) -> None:
    def taken(**option: int) -> bool:
        try:
            kind(**option)
        except rpc.UsageError:
            return False
        return True

    for name, _, valid, _ in rows(header):
        option = name.strip("`")
        bounds = re.fullmatch(r"(\d+) to (\d+)", valid)
        if bounds is None:
            assert valid == ""
            continue
        least, most = int(bounds[1]), int(bounds[2])
        assert taken(**{option: least})
        assert taken(**{option: most})
        assert not taken(**{option: least - 1})
        assert not taken(**{option: most + 1})


def test_every_error_is_listed_with_whether_it_is_safe_to_retry() -> None:
    listed = {re.findall(r"`(\w+)`", row[0])[0]: row[3] for row in rows("| error | when |")}
    errors = {
        name: getattr(rpc, name)
        for name in rpc.__all__
        if name != "DragomanError" and isinstance(getattr(rpc, name), type)
        if issubclass(getattr(rpc, name), rpc.DragomanError)
    }
    assert listed.keys() == errors.keys()
    assert {name: re.split(r"\W", cell)[0] for name, cell in listed.items()} == {
        name: "yes" if kind.retry_safe else "no" for name, kind in errors.items()
    }


@pytest.mark.parametrize(
    ("header", "kind"),
    [("| of a client |", rpc.ClientStatistics), ("| of a server |", rpc.ServerStatistics)],
)
def test_every_counter_is_listed(header: str, kind: Any) -> None:
    listed = [name for row in rows(header) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(listed) == sorted(field.name for field in dataclasses.fields(kind))


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What a record of a decision or a change names may be gone since.
TODAY = [page for page in PAGES if "decisions" not in page.parts and page.name != "CHANGELOG.md"]
LAYOUT = [page for page in TODAY if "architecture" in page.parts]
PACKAGE = ROOT / "src" / "dragoman"
RECORDS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            name, _, place = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), f"{page.name}: {target}"
            if place:
                headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
                assert place in anchors, f"{page.name}: {target}"


def test_pages_name_files_that_exist() -> None:
    for page in TODAY:
        for name in re.findall(r"`((?:src|tests|docs|benchmarks|fuzz)/[\w./]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_what_code_says_of_pages_is_there() -> None:
    sources = [each for each in PACKAGE.rglob("*") if each.suffix in (".py", ".pyx", ".pxd")]
    for file in [*sources, ROOT / "pyproject.toml", ROOT / "Makefile"]:
        for name in re.findall(r"(?<![\w/.])docs/[\w/-]+\.md", file.read_text()):
            assert (ROOT / name).exists(), f"{file.name}: {name}"


def is_module(path: Path) -> bool:
    return path.is_dir() or any(path.with_suffix(s).exists() for s in (".py", ".pyx", ".pxd"))


def test_rooms_of_the_architecture_have_the_modules_that_its_pages_name() -> None:
    listed = 0
    for page in LAYOUT:
        text = page.read_text()
        for room, modules in re.findall(r"^\| `([\w/]+)` \| ((?:`\w+`(?:, )?)+) \|", text, re.M):
            for module in re.findall(r"\w+", modules):
                assert is_module(PACKAGE / room / module), f"{page.name}: {room}/{module}"
                listed += 1
        # dotted.module.Name, and room/module
        for name in re.findall(r"`([a-z_]\w*(?:[./][A-Za-z]\w*)+)`", text):
            first, *rest = re.split(r"[./]", name)
            if (ROOT / name).exists() or not is_module(PACKAGE / first):
                continue
            path = PACKAGE / first
            while rest and path.is_dir():
                path = path / rest.pop(0)
            face = rest == [] and f"{path.name}" in (path.parent / "__init__.py").read_text()
            assert is_module(path) or face, f"{page.name}: {name}"
    assert listed > 100


def test_lines_of_pages_have_at_most_100_columns() -> None:
    """Tables, code and what cannot be broken aside."""
    for page in PAGES:
        code = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            code ^= line.startswith("```")
            aside = code or line.startswith(("|", "#", "    ")) or " " not in line.strip("- ")
            assert aside or len(line) <= 100, f"{page.name}:{number}"


def test_decisions_are_numbered_dated_and_listed() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \| (\S+) \|$", index, re.M)
    assert [int(number) for number, *_ in listed] == list(range(1, len(RECORDS) + 1))
    assert [name for _, _, name, _ in listed] == [each.name for each in RECORDS]
    for number, title, name, date in listed:
        text = (ROOT / "docs" / "decisions" / name).read_text()
        assert name.startswith(f"{int(number):04d}-")
        assert " ".join(text.partition("\n\n")[0].split()) == f"# {number}. {title}"
        assert re.findall(r"^(?:Date: (\S+)|## (.+))$", text, re.M) == [
            (date, ""),
            *(("", heading) for heading in ("Context", "Decision", "Consequences")),
        ]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needs = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        needs += extra
    (record,) = (each for each in RECORDS if "dependency-ranges" in each.name)
    given = {name.strip() for row in rows("| package |", record) for name in row[0].split(",")}
    assert {re.split(r"[^\w-]", need)[0] for need in needs} <= given
