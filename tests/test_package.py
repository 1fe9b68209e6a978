"""What is released: a source distribution that is whole, and a wheel that needs nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import dragoman

ROOT = Path(__file__).parent.parent
SOURCES = {".py", ".pyx", ".pxd", ".pyi", ".lua"}
# Compiled quickly: these tests are about what is in the packages, not about speed.
QUICK = os.environ | {"DRAGOMAN_OPTIMIZE": "0"}


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program there, with both outputs as one."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=QUICK | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def build(what: str, tree: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``sdist`` or ``wheel`` by the build's own entry points, with this environment's tools."""
    program = (
        f"from setuptools.build_meta import build_{what} as b; b({str(out)!r})"
        if what == "sdist"
        else f"from setuptools.build_meta import build_{what} as b; b({str(out)!r}, {{}})"
    )
    return run(sys.executable, "-c", program, cwd=tree, **environment)


def copied(tree: Path) -> Path:
    """What a checkout has, with C and libraries that were built in it."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tree / "src", ignore=ignore)
    shutil.copytree(ROOT / "requirements", tree / "requirements", ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tree)
    shutil.copy(ROOT / "CHANGELOG.md", tree)
    return tree


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sdist")
    tree = copied(place / "tree")
    built = build("sdist", tree, place)
    assert built.returncode == 0, built.stdout[-2000:]
    (found,) = place.glob("*.tar.gz")
    return found


def sources(root: Path) -> set[str]:
    """Every source file of the package, below the root."""
    return {
        str(path.relative_to(root))
        for path in (root / "src" / "dragoman").rglob("*")
        if path.suffix in SOURCES or path.name == "py.typed"
    }


def test_the_source_distribution_has_every_source_and_nothing_that_was_made(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sources(sdist.parent / "tree") - names == set()
    assert len([name for name in names if name.endswith(".pyx")]) > 90
    assert [name for name in names if name.endswith((".c", ".so", ".html", ".pyc"))] == []
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert "requirements/locked.txt" in names


@pytest.mark.parametrize("what", ["sdist", "wheel"])
@pytest.mark.parametrize("fault", ["no sources", "no extensions"])
def test_nothing_is_built_without_the_compiled_half(tmp_path: Path, what: str, fault: str) -> None:
    tree = copied(tmp_path / "tree")
    environment = {}
    if fault == "no sources":
        for path in tree.rglob("*.pyx"):
            path.unlink()
        words = "there is no .pyx below src"
    else:
        environment["DRAGOMAN_EXTENSIONS"] = "0"
        words = "DRAGOMAN_EXTENSIONS=0 is for editable installs only"
    refused = build(what, tree, tmp_path, **environment)
    assert refused.returncode != 0
    assert words in refused.stdout
    assert not [*tmp_path.glob("*.whl"), *tmp_path.glob("*.tar.gz")]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout with one module to compile."""
    package = tmp_path / "src" / "dragoman"
    package.mkdir(parents=True)
    shutil.copy(ROOT / "setup.py", tmp_path)
    project = '[project]\nname = "small"\nversion = "1"\n'
    where = '[tool.setuptools.packages.find]\nwhere = ["src"]\n'
    (tmp_path / "pyproject.toml").write_text(project + where)
    (package / "__init__.py").touch()
    (package / "there.pyx").write_text("cdef class Base:\n    pass\n")
    return tmp_path


def build_in_place(tree: Path) -> subprocess.CompletedProcess[str]:
    """Compile as ``make setup`` does."""
    return run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tree)


def test_a_build_removes_what_has_no_source_any_more(small: Path) -> None:
    package = small / "src" / "dragoman"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name in ("gone.c", f"gone{suffix}", f"there{suffix}"):
        (package / name).touch()
    built = build_in_place(small)
    assert built.returncode == 0, built.stdout[-2000:]
    assert {path.name for path in package.glob("*.*")} == {
        *("__init__.py", "there.pyx", "there.c", f"there{suffix}")
    }
    assert (package / f"there{suffix}").stat().st_size > 0


@pytest.mark.parametrize("released", [False, True])
def test_a_warning_of_cython_ends_the_build_of_a_checkout(small: Path, released: bool) -> None:
    if released:
        (small / "PKG-INFO").touch()
    with (small / "src" / "dragoman" / "there.pyx").open("a") as source:
        source.write("cimport cython\n\n@cython.freelist(8)\ncdef class Below(Base):\n    pass\n")
    built = build_in_place(small)
    assert "freelists cannot be used on subtypes" in built.stdout
    assert (built.returncode == 0) == released


def seed(tree: Path) -> None:
    """Lay the C and the libraries of this tree where the build looks for what it has made already.

    Of the same sources, since these are compared; so two modules are left to make instead of all.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    cache = f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    modules = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "src").rglob("*.pyx")}
    made = {name for name in modules if (ROOT / f"{name}{suffix}").exists()}
    left = sorted(made, key=lambda name: (ROOT / f"{name}.pyx").stat().st_size)[:2]
    for name in made.difference(left):
        if (c := ROOT / f"{name}.c").exists():
            shutil.copyfile(c, tree / f"{name}.c")
    for name in made.difference(left):
        library = tree / "build" / cache / f"{name.relative_to('src')}{suffix}"
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / f"{name}{suffix}", library)


# All of it is a minute on two idle processors.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("compiled", ["two modules", pytest.param("all", marks=pytest.mark.slow)])
def test_a_wheel_from_the_source_distribution_runs_a_race(
    sdist: Path, tmp_path: Path, compiled: str
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.glob("dragoman-*")
    assert {name: (tree / name).read_bytes() for name in sources(tree)} == {
        name: (ROOT / name).read_bytes() for name in sources(ROOT)
    }
    if compiled != "all":
        seed(tree)
    built = build("wheel", tree, tmp_path)
    assert built.returncode == 0, built.stdout[-2000:]
    (wheel,) = tmp_path.glob("*.whl")

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    wanted = {name.removeprefix("src/") for name in sources(tree) if not name.endswith(".pyx")}
    wanted |= {name[4:-4] + suffix for name in sources(tree) if name.endswith(".pyx")}
    assert wanted - names == set()
    assert [name for name in names if name.endswith((".c", ".html", ".pyc"))] == []
    assert f"Version: {dragoman.__version__}\n" in metadata
    assert re.search(r"^Requires-Dist: uvloop", metadata, re.MULTILINE)

    # An environment of its own; what dragoman depends on is this one's, dragoman is not.
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    python, program = tmp_path / "venv/bin/python", tmp_path / "venv/bin/dragoman"
    pip = (sys.executable, "-m", "pip", "--python", python)
    installed = run(*pip, "install", "-q", "--no-deps", "--no-compile", wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stdout
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = run(python, "-c", "import dragoman; print(dragoman.__file__)", cwd=tmp_path)
    assert Path(found.stdout.strip()).is_relative_to(packages), found.stdout
    doubles = "from dragoman.testing import DubboProvider, FailingRegistry, simulate"
    doubled = run(python, "-c", doubles, cwd=tmp_path)
    assert doubled.returncode == 0, doubled.stdout
    version = f"dragoman {dragoman.__version__}\n"
    assert run(program, "--version", cwd=tmp_path).stdout == version
    assert run(python, "-m", "dragoman", "--version", cwd=tmp_path).stdout == version
    assert "Usage: dragoman" in run(program, "-h", cwd=tmp_path).stdout

    options = (
        "--connections 8 --duration 1 --warmup 0 --load builtin --agent-port 0 --consumer-port 0"
    )
    raced = run(program, "race", *options.split(), "--json", "result.json", cwd=tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert raced.returncode == 0, raced.stdout[-3000:]
    assert result["levels"][0]["errors"] == {}
    assert result["levels"][0]["requests"] > 20
