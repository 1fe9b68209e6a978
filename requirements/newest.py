"""The tests of what touches dependencies, on the newest versions that the ranges allow.

`make test-newest` runs it as ``python -m requirements.newest LOCKED NEWEST`` with two files of
pins. Where they say the same there is nothing to try. Otherwise a virtual environment gets the
newest, in a copy of the tree (built anew if what builds it differs), and says what differs, how the
tests went, and returns 1 if they failed: that is for people to look at, not for a release to wait
for, since users of a release may install from the locked file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path("build/newest")
TREE = ROOT / "tree"
# What the extensions are made with.
BUILDERS = {"cython", "setuptools"}
# Each has a dependency in it that may change under us; together some minutes on two cores.
TESTS = (
    "tests/agent/test_admin.py",
    "tests/agent/test_config.py",
    "tests/broker/test_conformance.py",
    "tests/cli",
    "tests/dubbo/client/test_client.py",
    "tests/dubbo/client/test_values.py",
    "tests/dubbo/types/test_declaration.py",
    "tests/dubbo/upstream/test_json_to_hessian2.py",
    "tests/observe",
    "tests/race/test_task.py",
    "tests/race/test_workflow.py",
    "tests/registry/test_gateway.py",
    "tests/registry/test_nacos.py",
    "tests/registry/test_registration.py",
    "tests/registry/test_urls.py",
    "tests/rpc/test_calling.py",
    "tests/rpc/test_service_arguments.py",
    "tests/rpc/test_service_declarations.py",
    "tests/rpc/test_services.py",
    "tests/rpc/test_tls.py",
    "tests/test_reasons.py",
    "tests/wire/hessian2/test_second_reader.py",
    "tests/wire/http1/test_peers.py",
    "tests/wire/test_misfit.py",
)
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^ \\]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, set[str]]:
    """The versions that a file of pins names for each package."""
    found: dict[str, set[str]] = {}
    for name, version in _PIN.findall(path.read_text()):
        found.setdefault(name, set()).add(version)
    return found


def differences(locked: dict[str, set[str]], newest: dict[str, set[str]]) -> dict[str, str]:
    """What became of each package that is not the same: ``0.22 -> 0.23``."""
    nothing = {"none"}
    return {
        name: f"{_shown(locked.get(name, nothing))} -> {_shown(newest.get(name, nothing))}"
        for name in sorted(locked.keys() | newest.keys())
        if locked.get(name) != newest.get(name)
    }


def _shown(versions: set[str]) -> str:
    return " or ".join(sorted(versions))


def copy_tree(*, built: bool) -> None:
    """The tree as it is, with or without what was compiled."""
    shutil.rmtree(TREE, ignore_errors=True)
    left_out = ["*.c", "*.html", "__pycache__", "*.egg-info"] + ([] if built else ["*.so"])
    for name in ("src", "tests", "fuzz", "benchmarks", "interop", "docs", "requirements"):
        ignore = shutil.ignore_patterns(*left_out, "target", "node_modules")
        shutil.copytree(name, TREE / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "Makefile"):
        shutil.copy(name, TREE)


def run(*command: str, cwd: Path = Path()) -> int:
    """Run it and return its exit code."""
    print("$", " ".join(command), flush=True)
    environment = os.environ | {"DRAGOMAN_EXTENSIONS": "0"} if "pip" in command else None
    return subprocess.run(command, cwd=cwd, env=environment, check=False).returncode


def main(locked: Path, newest: Path) -> int:
    """Compare, install, build, test; the exit code."""
    changed = differences(pins(locked), pins(newest))
    if not changed:
        print("the newest versions are the locked ones: nothing else to test")
        return 0
    for name, change in changed.items():
        print(f"newer than locked: {name} {change}")
    venv.create(ROOT / "venv", clear=True, with_pip=True, symlinks=True)
    python = str((ROOT / "venv" / "bin" / "python").absolute())
    rebuilt = bool(BUILDERS & changed.keys())
    copy_tree(built=not rebuilt)
    steps = (
        (python, "-m", "pip", "install", "-q", "--require-hashes", "-r", str(newest.absolute())),
        (python, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "-e", "."),
        *([(python, "setup.py", "-q", "build_ext", "--inplace")] if rebuilt else []),
        (python, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", *TESTS),
    )
    for step in steps:
        if run(*step, cwd=TREE):
            print(f"on the newest versions this fails: {' '.join(step)}")
            return 1
    print("the newest versions do as well as the locked ones")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
