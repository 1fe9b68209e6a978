"""Other Dubbo clients beside Java's: what works against a service of the SDK, and what is absent.

Each is installed by its own package manager where that is on PATH, and "not offered" where it is
not. The invariant: every call that a client was told to make is among its lines.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from interop import java_callers
from interop.results import Result, passed

HOME = Path(__file__).parent
INSTALL_S = 1800
CALL_S = 60


class Absent(Exception):
    """What the peer needs is not on this machine; the text says what."""


def run_all(tell: Callable[[str], object]) -> dict[str, Result]:
    """Every peer, by its name."""
    found: dict[str, Result] = {}
    for name, run in PEERS.items():
        tell(f"interop: {name}")
        try:
            found[name] = run()
        except Absent as absent:
            found[name] = Result("not offered", str(absent))
        except Exception as error:
            found[name] = Result("fail", f"{type(error).__name__}: {error}"[:300])
    return found


def npm() -> Result:
    """dubbo2.js calls the SDK's service."""
    folder = HOME / "npm"
    install(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], folder)
    return calls(["node", "calls.js"], folder)


def go() -> Result:
    """dubbo-go calls the SDK's service."""
    folder = HOME / "go"
    install(["go", "build", "-o", "calls", "."], folder)
    return calls(["./calls"], folder)


def install(command: list[str], folder: Path) -> None:
    """Have the package manager do its work. Absent when it, or what it is to get, is missing."""
    if shutil.which(command[0]) is None:
        raise Absent(f"no {command[0]} on PATH")
    run = partial(subprocess.run, cwd=folder, capture_output=True, text=True, check=False)
    done = run(command, timeout=INSTALL_S)
    if done.returncode:
        raise Absent(f"{' '.join(command[:2])}: {done.stderr.strip()[-200:]}")


def calls(command: list[str], folder: Path) -> Result:
    """Run a client against a service of the SDK; it prints a line of JSON for each call."""
    with ExitStack() as stack:
        _, port = java_callers.serve(stack)
        done = subprocess.run(
            [*command, f"127.0.0.1:{port}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=CALL_S,
            check=False,
        )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    complaints = [f"{each['name']}: {each['why']}" for each in lines if not each["pass"]]
    names = ", ".join(each["name"] for each in lines)
    ended = None if done.returncode == 0 and lines else done.stderr[-200:] or "no call was made"
    return passed(names, ended, *complaints)


def apache_dubbo() -> Result:
    """PyPI's apache-dubbo has no Dubbo protocol (3.0.0b1: `dubbo.protocol` holds Triple alone)."""
    raise Absent("it speaks Triple only; `python -m benchmarks.apache_dubbo` measures it by itself")


PEERS: dict[str, Callable[[], Result]] = {
    "dubbo-go 3.1.1 (Go) to an SDK service": go,
    "dubbo2.js 2.3.9 (npm) to an SDK service": npm,
    "apache-dubbo 3.0.0b1 (PyPI) to an SDK service": apache_dubbo,
}
