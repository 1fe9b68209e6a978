"""The shape of the package: imports point down, what is public is documented and typed.

Everything is read from the source text: Python's imports and Cython's ``cimport``s alike.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "dragoman"

# Lowest first; a part imports only from the lines above its own, or from itself.
LEVELS = [
    {"hangup"},
    {"errors"},
    {"forking"},
    {
        "options",
        "reasons",
        "budget",
        "clock",
        "timers",
        "stopping",
        "accepting",
        "opening",
        "unclosed",
    },
    {"observe"},
    {"wire", "queue"},
    {"balance", "flow"},
    {"rpc"},
    {"registry"},
    {"cluster"},
    {"dubbo", "broker"},
    {"agent", "testing"},
    {"harness"},
    {"demo"},
    {"race"},
    {"bench"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}
# What the design keeps apart although the levels would allow it.
FORBIDDEN = {
    ("race", "agent"): "the race drives processes through the command line",
    ("demo", "agent"): "the demo services are ordinary programs",
    ("cluster", "wire.http1"): "a cluster knows no HTTP",
    ("rpc", "registry"): "a connection knows no registry",
}

CODE = sorted(path for suffix in ("py", "pyx", "pxd") for path in SOURCE.rglob(f"*.{suffix}"))
IMPORT = re.compile(
    r"^\s*(?:from\s+(dragoman[\w.]*)\s+c?import\s+(\([^)]*\)|[^\n#]*)|c?import\s+(dragoman[\w.]*))",
    re.MULTILINE,
)


def name_of(path: Path) -> str:
    """``wire.mesh`` for ``.../wire/mesh.pyx``."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def imports_of(path: Path) -> Iterator[str]:
    """The dragoman modules that a source file imports or cimports, without the package's name."""
    for found in IMPORT.finditer(path.read_text()):
        module = (found[1] or found[3]).removeprefix("dragoman").strip(".")
        if found[1]:
            names = re.findall(r"(\w+)(?:\s+as\s+\w+)?\s*(?:,|$|\))", found[2].strip("() \n"))
            for name in names:
                # "from dragoman.agent import contract" imports a module, else names of one.
                below = SOURCE.joinpath(*module.split(".")) if module else SOURCE
                if below.is_dir() and ((below / name).is_dir() or any(below.glob(f"{name}.py*"))):
                    yield f"{module}.{name}".strip(".")
                    continue
                yield module
        else:
            yield module


def test_there_is_code_to_look_at() -> None:
    assert len(CODE) > 80
    assert set(imports_of(SOURCE / "rpc" / "session.pyx")) >= {"wire.mesh", "rpc.tick", "errors"}


def test_every_part_has_its_level() -> None:
    parts = {name_of(path).split(".")[0] for path in CODE}
    assert parts <= set(LEVEL), f"give these a level: {sorted(parts - set(LEVEL))}"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    own = name_of(path)
    part = own.split(".")[0]
    for module in imports_of(path):
        other = (module or "__init__").split(".")[0]
        if other not in (part, "__init__"):
            assert LEVEL[other] < LEVEL[part], f"{own} imports {module}, which is not below it"
        for (above, below), why in FORBIDDEN.items():
            assert not (part == above and module.startswith(below)), f"{own}: {module}: {why}"


def test_modules_of_one_part_do_not_import_each_other_in_circles() -> None:
    imports: dict[str, set[str]] = {}
    for path in CODE:
        if path.suffix == ".py" and path.name != "__init__.py":
            tree = ast.parse(path.read_text())
            found = set()
            for node in tree.body:  # at the module's level: what a function imports is late enough
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dragoman."):
                    found.add((node.module or "").removeprefix("dragoman."))
            imports[name_of(path)] = found
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle of imports: {' -> '.join((*trail, module))}"
        if module not in done:
            for other in imports.get(module, ()):
                walk(other, (*trail, module))
            done.add(module)

    for module in imports:
        walk(module, ())


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public names of a Python module that say nothing about themselves."""
    if not ast.get_docstring(tree):
        yield "the module"

    def visit(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if node.name.startswith("_"):
                    continue
                overridden = any(
                    getattr(decorator, "attr", getattr(decorator, "id", ""))
                    in ("overload", "setter")
                    for decorator in node.decorator_list
                )
                if not ast.get_docstring(node) and not overridden:
                    yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from visit(node.body, f"{prefix}{node.name}.")

    yield from visit(tree.body, "")


PYTHON = [path for path in CODE if path.suffix == ".py"]
CYTHON = [path for path in CODE if path.suffix == ".pyx"]


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_what_is_public_in_python_has_a_docstring(path: Path) -> None:
    assert list(undocumented(ast.parse(path.read_text()))) == []


# The callbacks that asyncio documents.
PROTOCOL = {
    name
    for kind in (asyncio.Protocol, asyncio.BufferedProtocol)
    for name in dir(kind)
    if not name.startswith("_")
}
DEFINITION = re.compile(
    r"^(?P<indent> *)(?:cdef class|class|async def|def|cpdef [^\n(=]*?)\s*\b(?P<name>\w+)"
    r"(?P<rest>\([^:]*?\)|)[^\n:]*:[ ]*\n(?P<next>\s*[^\n]*)",
    re.MULTILINE,
)


@pytest.mark.parametrize("path", CYTHON, ids=name_of)
def test_what_is_public_in_cython_has_a_docstring(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(('"""', 'r"""')), "the module"
    missing = [
        found["name"]
        for found in DEFINITION.finditer(text)
        if not found["name"].startswith("_")
        and found["name"] not in PROTOCOL
        and len(found["indent"]) <= 4
        and not found["next"].strip().startswith(('"""', 'r"""'))
    ]
    assert missing == []


def test_compiled_modules_that_python_imports_have_types() -> None:
    used = {module for path in PYTHON for module in imports_of(path)}
    untyped = [
        name_of(path)
        for path in CYTHON
        if name_of(path) in used and not path.with_suffix(".pyi").exists()
    ]
    assert untyped == []


def test_types_describe_modules_that_exist() -> None:
    for path in SOURCE.rglob("*.pyi"):
        assert path.with_suffix(".pyx").exists(), f"{path.name} describes nothing"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.pyi")), ids=name_of)
def test_what_is_public_in_types_exists_in_the_module(path: Path) -> None:
    """A stub must not promise what the compiled module does not have."""
    module = __import__(f"dragoman.{name_of(path)}", fromlist=["x"])
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            assert hasattr(module, node.name), node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            described = getattr(module, node.name)
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert hasattr(described, member.name), f"{node.name}.{member.name}"


@pytest.mark.parametrize(
    "path", [path for path in CODE if path.suffix in (".pyx", ".pxd")], ids=lambda p: p.name
)
def test_lines_of_cython_have_at_most_100_columns(path: Path) -> None:
    """What ruff checks for Python."""
    long = [n for n, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 100]
    assert long == []


@pytest.mark.parametrize(
    "path", [path for path in CODE if path.suffix == ".pyx"], ids=lambda path: path.name
)
def test_what_cython_imports_is_used(path: Path) -> None:
    """What ruff checks for Python."""
    text = path.read_text()
    imported = re.findall(r"^from \S+ c?import (\([^)]*\)|[^\n(]+)$", text, re.M)
    names = [name.strip() for part in imported for name in part.strip("()").split(",")]
    unused = [n for n in names if n.isidentifier() and len(re.findall(rf"\b{n}\b", text)) < 2]
    assert unused == []


@pytest.mark.parametrize(
    "path", [path for path in CODE if path.suffix == ".pyx"], ids=lambda path: path.name
)
def test_what_is_called_when_an_object_is_freed_is_still_there(path: Path) -> None:
    """The collector of garbage takes an object's attributes before the object is freed, so a
    ``__dealloc__`` that uses any belongs to a class that keeps them (``no_gc_clear``)."""
    text = path.read_text()
    for found in re.finditer(r"^((?:@.*\n)*)cdef class (\w+).*\n((?:(?: .*)?\n)*)", text, re.M):
        freed = re.search(r"    def __dealloc__\(self\):\n((?:(?: {8}.*)?\n)*)", found[3])
        if freed and re.search(r"self\.\w+\(|self\.\w+\.\w+\(", freed[1]):
            assert "@cython.no_gc_clear" in found[1], found[2]
