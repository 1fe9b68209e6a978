"""The shape of the package: imports point down, what is public is documented and typed.

Everything is read from the source text, Python's imports and Cython's ``cimport``s alike. Each rule
is a function that yields what breaks it, so that a rule is shown to find what it is there for.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import datetime
import inspect
import json
import logging
import os
import random
import re
import resource
import socket
import statistics
import struct
import sys
import threading
from collections import Counter, OrderedDict, deque
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

# Comments and texts hold no imports; an import may stand in brackets over several lines.
IMPORT = re.compile(
    r"^(?P<indent>[ \t]*)(?:from\s+(?P<of>dragoman[\w.]*)\s+c?import\s+"
    r"(?P<names>\([^)]*\)|[^\n#]*)|c?import\s+(?P<plain>dragoman[\w.]*))",
    re.MULTILINE,
)
Tree = dict[Path, str]


def sources() -> Tree:
    """The text of every source file, by its path inside the package."""
    return {
        path.relative_to(SOURCE): path.read_text()
        for suffix in ("py", "pyx", "pxd", "pyi")
        for path in sorted(SOURCE.rglob(f"*.{suffix}"))
    }


def of_kind(tree: Tree, *suffixes: str) -> Tree:
    return {path: text for path, text in tree.items() if path.suffix in suffixes}


def name_of(path: Path) -> str:
    """``wire.mesh`` for ``wire/mesh.pyx``, ``wire.json`` for ``wire/json/__init__.py``."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports_of(text: str, modules: set[str], late: bool = True) -> Iterator[str]:
    """The dragoman modules that a source imports or cimports, without the package's name.

    Without ``late``, those of functions and of ``if TYPE_CHECKING`` are left out.
    """
    for found in IMPORT.finditer(text):
        if found["indent"] and not late:
            continue
        module = (found["of"] or found["plain"]).removeprefix("dragoman").strip(".")
        if found["plain"]:
            yield module
            continue
        for name in re.findall(r"(\w+)(?:\s+as\s+\w+)?\s*(?:,|$)", found["names"].strip("() \n")):
            # "from dragoman.agent import contract" imports a module, others names of one.
            inner = f"{module}.{name}".strip(".")
            yield inner if inner in modules else module


def upward(tree: Tree) -> Iterator[str]:
    """Imports of what is not below, and of what is kept apart."""
    modules = {name_of(path) for path in tree}
    for path, text in of_kind(tree, ".py", ".pyx", ".pxd").items():
        own = name_of(path)
        part = own.split(".")[0]
        if part not in LEVEL:
            yield f"{path}: give {part} a level"
            continue
        for module in imports_of(text, modules):
            other = (module or "__init__").split(".")[0]
            if other not in (part, "__init__") and LEVEL.get(other, len(LEVELS)) >= LEVEL[part]:
                yield f"{path} imports {module}, which is not below it"
            for (above, below), why in FORBIDDEN.items():
                if part == above and f"{module}.".startswith(f"{below}."):
                    yield f"{path} imports {module}: {why}"


def circles(tree: Tree) -> Iterator[str]:
    """Modules that need each other to be loaded.

    A module's files are one node: its text and the declarations beside it. A declaration needs what
    it cimports, and a module that cimports another loads it.
    """
    modules = {name_of(path) for path in tree}
    needs: dict[str, set[str]] = {name: set() for name in modules}
    for path, text in of_kind(tree, ".py", ".pyx", ".pxd").items():
        own = name_of(path)
        needs[own] |= set(imports_of(text, modules, late=False)) - {own}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> Iterator[str]:
        if module in trail:
            yield " -> ".join((*trail[trail.index(module) :], module))
        elif module not in done:
            for other in sorted(needs.get(module, ())):
                yield from walk(other, (*trail, module))
            done.add(module)

    for module in sorted(needs):
        yield from walk(module, ())


DEFINITION = re.compile(
    r"^(?P<indent> *)(?:cdef class|class|async def|def|cpdef [^\n(=]*?)\s*\b(?P<name>\w+)"
    r"(?P<rest>\([^:]*?\)|)[^\n:]*:[ ]*\n(?P<next>\s*[^\n]*)",
    re.MULTILINE,
)
# The callbacks that asyncio documents.
PROTOCOL = {
    name
    for kind in (asyncio.Protocol, asyncio.BufferedProtocol)
    for name in dir(kind)
    if not name.startswith("_")
}


def bare_in_python(text: str) -> Iterator[str]:
    """Public names of a Python module that say nothing about themselves."""
    tree = ast.parse(text)
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


def bare_in_cython(text: str) -> Iterator[str]:
    """Public names of a Cython module that say nothing about themselves."""
    if not text.startswith(('"""', 'r"""')):
        yield "the module"
    for found in DEFINITION.finditer(text):
        if (
            not found["name"].startswith("_")
            and found["name"] not in PROTOCOL
            and len(found["indent"]) <= 4
            and not found["next"].strip().startswith(('"""', 'r"""'))
        ):
            yield found["name"]


def undocumented(tree: Tree) -> Iterator[str]:
    """Public names without a docstring."""
    for path, text in of_kind(tree, ".py", ".pyx").items():
        bare = bare_in_python if path.suffix == ".py" else bare_in_cython
        yield from (f"{path}: {name}" for name in bare(text))


def untyped(tree: Tree) -> Iterator[str]:
    """Compiled modules that Python imports without types, and types of no module or of no name."""
    modules = {name_of(path) for path in tree}
    used = {m for text in of_kind(tree, ".py").values() for m in imports_of(text, modules)}
    for path in of_kind(tree, ".pyx"):
        if name_of(path) in used and path.with_suffix(".pyi") not in tree:
            yield f"{path} has no types beside it"
    for path, text in of_kind(tree, ".pyi").items():
        if path.with_suffix(".pyx") not in tree:
            yield f"{path} describes nothing"
            continue
        module = __import__(f"dragoman.{name_of(path)}", fromlist=["x"])
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if not hasattr(module, node.name):
                    yield f"{path}: {node.name} is not in the module"
                elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    described = getattr(module, node.name)
                    for member in node.body:
                        if isinstance(
                            member, ast.FunctionDef | ast.AsyncFunctionDef
                        ) and not hasattr(described, member.name):
                            yield f"{path}: {node.name}.{member.name} is not in the module"


def untidy(tree: Tree) -> Iterator[str]:
    """Long lines and unused imports of Cython, which ruff finds in Python."""
    for path, text in of_kind(tree, ".pyx", ".pxd").items():
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > 100:
                yield f"{path}:{number} has {len(line)} columns"
    for path, text in of_kind(tree, ".pyx").items():
        imported = re.findall(r"^from \S+ c?import (\([^)]*\)|[^\n(]+)$", text, re.M)
        names = [name.strip() for part in imported for name in part.strip("()").split(",")]
        for name in names:
            if name.isidentifier() and len(re.findall(rf"\b{name}\b", text)) < 2:
                yield f"{path}: {name} is imported and not used"


def freed_too_early(tree: Tree) -> Iterator[str]:
    """Classes whose ``__dealloc__`` uses what the collector may have taken.

    The collector of garbage takes an object's attributes before the object is freed, so a
    ``__dealloc__`` that uses any belongs to a class that keeps them (``no_gc_clear``).
    """
    for path, text in of_kind(tree, ".pyx").items():
        for found in re.finditer(r"^((?:@.*\n)*)cdef class (\w+).*\n((?:(?: .*)?\n)*)", text, re.M):
            freed = re.search(r"    def __dealloc__\(self\):\n((?:(?: {8}.*)?\n)*)", found[3])
            if (
                freed
                and re.search(r"self\.\w+\(|self\.\w+\.\w+\(", freed[1])
                and "@cython.no_gc_clear" not in found[1]
            ):
                yield f"{path}: {found[2]}"


# Members of what is not ours, beside those of what these give.
FOREIGN = {"it_interval", "it_value", "mem", "no_gc_clear", "setter"} | {
    "tv_nsec",
    "tv_sec",
    "unicode",
}
GIVEN = (
    *(str, bytes, dict, list, set, int, float, deque, OrderedDict, BaseException, property),
    *(asyncio, asyncio.AbstractEventLoop, asyncio.Transport, asyncio.Future, asyncio.Task),
    *(datetime, datetime.datetime, datetime.timezone, inspect, logging, logging.Logger, os),
    *(dataclasses, json, os.stat_result, random, re, re.Pattern, resource.struct_rusage, socket),
    *(socket.socket, struct.Struct, sys, threading.Lock()),
)
# Texts and comments.
ASIDE = re.compile(r'"""(?:.|\n)*?"""|"(?:\\.|[^"\n\\])*"|\'(?:\\.|[^\'\n\\])*\'|#[^\n]*')


def undeclared(tree: Tree) -> Iterator[str]:
    """Attributes that compiled code asks for and nothing declares: Cython says nothing of them, and
    they fail where they are asked for, perhaps in a callback that nobody hears of."""
    known = FOREIGN.union(*map(dir, GIVEN), (path.stem for path in tree))
    asked: set[tuple[str, str]] = set()
    for path, text in tree.items():
        code = ASIDE.sub("", text)
        code = re.sub(
            r"^ *(?:from|c?import) .*", lambda line: line[0].replace(".", " "), code, flags=re.M
        )
        known.update(path.parts, re.findall(r"(?<![\w)\]]\.)\b[a-z_]\w*", code))
        # Attributes are declared where they are assigned, too.
        known.update(re.findall(r"\.(\w+)(?:: [^=\n]+)? = ", code))
        if path.suffix == ".pyx":
            asked |= {(name, str(path)) for name in re.findall(r"(?<=[\w)\]])\.([a-z_]\w*)", code)}
    for name, where in sorted(asked):
        if name not in known:
            yield f"{where}: nothing declares .{name}"


RULES = [upward, circles, undocumented, untyped, untidy, freed_too_early, undeclared]


def broken(rule: object, tree: Tree) -> list[str]:
    return list(rule(tree))  # type: ignore[operator]


def hold(rule: object) -> None:
    """Fail with all that breaks ``rule``."""
    found = broken(rule, sources())
    if found:
        pytest.fail("\n".join([f"{len(found)} times:", *found]), pytrace=False)


def test_imports_point_down() -> None:
    hold(upward)


def test_no_module_needs_itself_to_be_loaded() -> None:
    hold(circles)


def test_what_is_public_has_a_docstring() -> None:
    hold(undocumented)


def test_types_stand_beside_compiled_modules_and_say_what_is_there() -> None:
    hold(untyped)


def test_cython_has_short_lines_and_uses_what_it_imports() -> None:
    hold(untidy)


def test_what_is_called_when_an_object_is_freed_is_still_there() -> None:
    hold(freed_too_early)


def test_compiled_code_asks_for_what_is_declared() -> None:
    hold(undeclared)


def test_rooms_have_these_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """Told, not enforced: ``pytest -k rooms -s`` shows them."""
    lines: dict[str, list[int]] = {}
    for path, text in of_kind(sources(), ".py", ".pyx").items():
        lines.setdefault(str(path.parent), []).append(text.count("\n"))
    files = Counter({room: len(each) for room, each in lines.items()})
    print("\nroom, files, lines in all, in the median file, in the longest")
    for room, count in files.most_common():
        each = lines[room]
        print(f"{room:24}{count:4}{sum(each):7}{statistics.median(each):7.0f}{max(each):6}")
    assert sum(files.values()) > 80


# What each rule is there to find, in as few files as show it; ``None`` for what it must let pass.
SAMPLES: list[tuple[object, dict[str, str], str | None]] = [
    (upward, {"errors.py": "from dragoman.rpc import connect", "rpc/a.py": ""}, "not below"),
    (upward, {"wire/a.pyx": "from dragoman.rpc.tick cimport T", "rpc/tick.pxd": ""}, "not below"),
    (upward, {"flow/a.pxd": "cimport dragoman.cluster.peer", "cluster/peer.pxd": ""}, "not below"),
    (upward, {"wire/a.py": "from dragoman import rpc", "rpc/__init__.py": ""}, "imports rpc"),
    (upward, {"attic/a.py": ""}, "give attic a level"),
    (upward, {"rpc/a.py": "    from dragoman.registry import x"}, "knows no registry"),
    (upward, {"rpc/a.py": "from dragoman.errors import (\n    A,\n    B,\n)"}, None),
    (circles, {"a.py": "from dragoman.b import x", "b.py": "import dragoman.a"}, "a -> b -> a"),
    (
        circles,
        {
            "a.pyx": "from dragoman.b cimport B",
            "b.pxd": "from dragoman.c cimport C",
            "c.pyx": "from dragoman.a import A",
        },
        "a -> b -> c -> a",
    ),
    (circles, {"a.py": "from dragoman.b import x", "b.py": "    import dragoman.a"}, None),
    (circles, {"a.pxd": "", "a.pyx": "from dragoman.a cimport A"}, None),
    (undocumented, {"a.py": '"""It."""\ndef f() -> None: ...'}, "f"),
    (undocumented, {"a.py": "x = 1"}, "the module"),
    (undocumented, {"a.py": '"""It."""\nclass A:\n    """It."""\n    def b(self): ...'}, "A.b"),
    (undocumented, {"a.pyx": '"""It."""\ncdef class A:\n    cdef int b\n'}, "A"),
    (undocumented, {"a.pyx": '"""It."""\ncdef class _A:\n    cdef int b\n'}, None),
    (untyped, {"a.py": "from dragoman.b import x", "b.pyx": ""}, "has no types"),
    (untyped, {"b.pyi": ""}, "describes nothing"),
    (untyped, {"timers.pyi": "def nothing() -> None: ...", "timers.pyx": ""}, "nothing is not"),
    (untyped, {"b.pyx": ""}, None),
    (untidy, {"a.pxd": "x" * 101}, "101 columns"),
    (untidy, {"a.pyx": "from libc.errno cimport EIO, ENOMEM\nx = EIO"}, "ENOMEM"),
    (untidy, {"a.pyx": "from libc.errno cimport (\n    EIO,\n    ENOMEM,\n)\nx = EIO"}, "ENOMEM"),
    (undeclared, {"a.pyx": "def f(a):\n    return a.whyunread()"}, "whyunread"),
    (
        undeclared,
        {"a.pyx": "def f(a):\n    return a.b", "b.pxd": "cdef class A:\n    cdef int b"},
        None,
    ),
    (
        freed_too_early,
        {"a.pyx": "cdef class A:\n    def __dealloc__(self):\n        self.b.close()\n"},
        "A",
    ),
    (
        freed_too_early,
        {
            "a.pyx": "@cython.no_gc_clear\ncdef class A:\n    def __dealloc__(self):\n"
            "        self.b.close()\n"
        },
        None,
    ),
]


def test_every_rule_finds_what_it_is_there_for() -> None:
    wrong = []
    for rule, files, wanted in SAMPLES:
        found = broken(rule, {Path(path): text for path, text in files.items()})
        if (wanted is None and found) or (wanted and not any(wanted in each for each in found)):
            wrong.append(f"{rule.__name__}: {files}: {found}")  # type: ignore[attr-defined]
    assert wrong == []
    assert {rule for rule, _, wanted in SAMPLES if wanted} == set(RULES)
