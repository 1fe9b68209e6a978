"""SHA-256 signatures of the files that a race must not find modified.

Called by the workflow before anything starts. A signature file is what ``sha256sum`` writes and
checks, ``<64 hex digits>  <path>`` a line, ``#`` for comments; paths are relative to the file's
directory, and ``package:demo/provider.py`` names a file of the installed dragoman package. The
invariant: a file that is missing, unreadable or different fails the race, and all such files are
named at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from dragoman.errors import DragomanError, UsageError

PACKAGE_PREFIX = "package:"
PACKAGE = Path(__file__).resolve().parent.parent
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")
# The demo services, the load, and the reading of CPU time: changing these would change the measure.
_GUARDED = (
    *("demo/**/*.py", "demo/**/*.pyx", "demo/**/*.pxd"),
    *("race/load*.py", "race/**/*.pyx", "race/**/*.pxd", "race/*.lua"),
    "harness/cpu.py",
)


class SignatureError(DragomanError):
    """A file that must not be modified was."""


def digest(path: Path) -> str:
    """The file's SHA-256 in hex; OSError as ``open`` raises it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, str]:
    """The signature file's hashes by path. Raises UsageError naming the line that is not one."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"signature file {path}: {_reason(error)}") from error
    signatures = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise UsageError(
                f"signature file {path}:{number}: expected '<64 hex digits>  <path>', not {line!r}"
            )
        signatures[match[2]] = match[1]
    if not signatures:
        raise UsageError(f"signature file {path}: names no file")
    return signatures


def verify(signatures: dict[str, str], base: Path) -> None:
    """Compare every file with its hash; raises SignatureError naming all that differ."""
    faults = []
    for name, expected in signatures.items():
        try:
            found = digest(_located(name, base))
        except OSError as error:
            faults.append(f"{name}: {_reason(error)}")
            continue
        if found != expected:
            faults.append(
                f"{name}: modified (SHA-256 {found[:12]}..., expected {expected[:12]}...)"
            )
    if faults:
        raise SignatureError("signatures: " + "; ".join(faults))


def guarded_files() -> list[str]:
    """The names of the package's own files that decide the measure: demo services and load."""
    names = {path for pattern in _GUARDED for path in PACKAGE.glob(pattern)}
    return [f"{PACKAGE_PREFIX}{path.relative_to(PACKAGE)}" for path in sorted(names)]


def write(path: Path, names: Iterable[str]) -> int:
    """Write a signature file for ``names``; returns how many. UsageError if one cannot be read."""
    lines = []
    for name in names:
        try:
            lines.append(f"{digest(_located(name, path.parent))}  {name}\n")
        except OSError as error:
            raise UsageError(f"{name}: {_reason(error)}") from error
    try:
        path.write_text("".join(lines))
    except OSError as error:
        raise UsageError(f"signature file {path}: {_reason(error)}") from error
    return len(lines)


def _located(name: str, base: Path) -> Path:
    if name.startswith(PACKAGE_PREFIX):
        return PACKAGE / name.removeprefix(PACKAGE_PREFIX)
    return base / name


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
