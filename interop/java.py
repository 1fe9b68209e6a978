"""The Java programs of ``interop/java``: built with Maven, started on ports of their own.

Used by the recorder, the matrix and ``tests/interop``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from interop.programs import Program

HOME = Path(__file__).parent / "java"
RELEASES = {"2.6": "dubbo26", "2.7": "dubbo27", "3.3": "dubbo33"}
# What the older releases reach into; they are from before Java 9 closed it.
OPENED = ["io", "lang", "lang.invoke", "lang.reflect", "math", "net", "text", "time"]
OPENED += ["util", "util.concurrent"]
BUILD_S = 900
# The host of loopback addresses: Dubbo puts the machine's own address in place of 127.0.0.1.
LOOPBACK = "dragoman.test"


class JavaMissing(RuntimeError):
    """Java, Maven or an artefact is not to be had; the text says which, plainly."""


def build() -> None:
    """Build the programs where that has not been done. JavaMissing when it cannot be."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise JavaMissing(f"no {program} on PATH")
    stamp = HOME / "target" / ".built"
    sources = [each for end in ("java", "xml", "allowlist") for each in HOME.rglob(f"*.{end}")]
    newest = max(each.stat().st_mtime for each in sources if "target" not in each.parts)
    if stamp.exists() and stamp.stat().st_mtime >= newest:
        return
    said = ""
    # First without the network: where all artefacts are there, that is faster and always works.
    for offline in (["-o"], []):
        run = subprocess.run(
            ["mvn", "-q", "-B", *offline, "package"],
            cwd=HOME,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
        if run.returncode == 0:
            stamp.parent.mkdir(exist_ok=True)
            stamp.touch()
            return
        said = run.stdout + run.stderr
    if "Could not resolve" in said or "could not be resolved" in said:
        lines = [line for line in said.splitlines() if "ERROR" in line]
        raise JavaMissing(f"Maven's artefacts are not to be had: {lines[0] if lines else said}")
    raise RuntimeError(f"the Java programs do not build:\n{said}")


class JavaProgram(Program):
    """``org.dragoman.interop.NAME`` of a release of Dubbo, with settings ``name=value``.

    Ready when it has printed a line that begins with "ready".
    """

    def __init__(self, release: str, name: str, **settings: object) -> None:
        folder = HOME / RELEASES[release]
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        for package in OPENED:
            command += ["--add-opens", f"java.base/java.{package}=ALL-UNNAMED"]
        command += [f"-Djdk.net.hosts.file={HOME / 'hosts'}"]
        command += ["-cp", f"{folder}/target/classes:{folder}/target/lib/*"]
        command += [f"org.dragoman.interop.{name}"]
        command += [f"{key}={value}" for key, value in settings.items()]
        super().__init__(f"{name} {release}", command)

    def wait_ready(self) -> JavaProgram:
        """Return when it serves, or begins to call."""
        self.wait_line("ready")
        return self

    def __enter__(self) -> JavaProgram:
        return self


def provider(release: str, serialization: str = "hessian2", **settings: object) -> JavaProgram:
    """A provider; ``port`` is among the settings. Not ready yet.

    It is on loopback; one with a registry is where others find it, at the machine's own address.
    """
    own = {"serialization": serialization, **settings}
    if "registry" not in settings:
        own["host"] = LOOPBACK
    return JavaProgram(release, "Provider", **own)


def listing() -> list[dict[str, Any]]:
    """All cases, described (``tests/conformance/dubbo/README.md`` says how)."""
    command = ["java", "-cp", f"{HOME}/api/target/classes", "org.dragoman.interop.Listing"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json_lines(run.stdout.splitlines())


def json_lines(lines: list[str]) -> list[dict[str, Any]]:
    """Those lines that are JSON objects."""
    return [json.loads(line) for line in lines if line.startswith("{")]


def maven_present() -> str | None:
    """Why the Java programs cannot be run, or None."""
    try:
        build()
    except JavaMissing as missing:
        return str(missing)
    return None


def environment() -> str:
    """Java's version, as it says."""
    run = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = run.stderr.splitlines()
    return found[0] if found else os.environ.get("JAVA_HOME", "unknown")
