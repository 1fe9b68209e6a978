"""What help, completion and tools see: every public method has the signature that its stub says."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dragoman

ROOT = Path(dragoman.__file__).parent
PUBLIC = ["dragoman.queue", "dragoman.broker", "dragoman.rpc", "dragoman.cluster", "dragoman.dubbo"]


def public() -> dict[str, Any]:
    """Classes and functions of the public modules, each once."""
    found: dict[str, Any] = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for each in module.__all__:
            value = getattr(module, each)
            if callable(value) and getattr(value, "__module__", "").startswith("dragoman."):
                found.setdefault(f"{value.__module__}.{value.__qualname__}", value)
    return found


def compiled(value: Any) -> bool:
    return not hasattr(value, "__code__")


def methods(value: type) -> dict[str, Any]:
    """The public methods of a class that dragoman defines, by where they are defined."""
    found = {}
    for base in reversed(value.__mro__):
        if base.__module__.startswith("dragoman."):
            for name, member in vars(base).items():
                if not name.startswith("_") and callable(member):
                    found[name] = getattr(value, name)
    return found


def stub_of(module: str) -> ast.Module | None:
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".pyi")
    return ast.parse(path.read_text()) if path.exists() else None


def declared(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of a stub's function."""
    scope: dict[str, Any] = {}
    bare = ast.parse(f"def f({ast.unparse(function.args)}): ...")
    for node in ast.walk(bare):
        if isinstance(node, ast.arg):
            node.annotation = None
    exec(compile(bare, "stub", "exec"), scope)
    return told(scope["f"])


def told(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def functions_of(body: list[ast.stmt], name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]


def classes_of(value: type) -> dict[str, list[ast.stmt]]:
    """The bodies of a class and its bases in their stubs, the most derived first."""
    found = {}
    for base in value.__mro__:
        stub = stub_of(base.__module__)
        for node in stub.body if stub is not None else []:
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                found[f"{base.__module__}.{base.__name__}"] = node.body
    return found


@pytest.mark.parametrize("name", public())
def test_inspect_knows_every_public_callable(name: str) -> None:
    value = public()[name]
    if not isinstance(value, type):
        inspect.signature(value)
    else:
        if not (value.__init__ is int.__init__ or value.__init__ is object.__init__):
            inspect.signature(value)
        for method in methods(value).values():
            inspect.signature(method)


@pytest.mark.parametrize("name", [name for name, value in public().items() if compiled(value)])
def test_what_is_compiled_has_the_signature_of_its_stub(name: str) -> None:
    value = public()[name]
    if not isinstance(value, type):
        stub = stub_of(value.__module__)
        assert stub is not None
        (function,) = functions_of(stub.body, value.__name__)
        assert told(value) == declared(function)
        return
    bodies = classes_of(value)
    for method, member in {"__init__": value, **methods(value)}.items():
        if not compiled(member) or (method == "__init__" and "__init__" not in vars(value)):
            continue
        found: list[Any] = []
        for body in bodies.values():
            found = found or functions_of(body, method)
        if not found:
            # Of a Python class without a stub, or what Python's own base has.
            assert method == "__init__", f"{method} is missing in the stub"
            continue
        # One of several overloads is as wide as all.
        variants = [declared(each)[1:] for each in found]  # without ``self``
        mine = told(member)[method != "__init__" :]
        if len(variants) == 1:
            assert mine == variants[0], method
        else:
            names = [[each[0] for each in variant] for variant in variants]
            assert [each[0] for each in mine] in names, method


@pytest.mark.parametrize("name", PUBLIC)
def test_only_what_is_public_shows_on_tab(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    shown = {each for each in dir(module) if not each.startswith("__")}
    assert shown == set(module.__all__)


def test_a_misspelt_option_of_a_store_fails_the_type_checker() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/broker/typed_stores.py"],
        cwd=ROOT.parent.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT.parent)},
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", ["serve", "open_store", "open_async"])
def test_options_of_stores_are_named(name: str) -> None:
    parameters = inspect.signature(getattr(importlib.import_module("dragoman.broker"), name))
    kinds = {each.kind for each in parameters.parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
