"""hessian-lite beside our codec: ``python -m interop.hessian2`` records what it writes.

``interop/codec/Recorder.java`` writes many values with a release of hessian-lite, and tells whether
it reads given bytes as the same values. The recordings are ``tests/conformance/hessian2/*.json``;
the tests there compare them with our codec, and have Java read what our writer writes.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import zlib
from pathlib import Path

from interop.java import OPENED, JavaMissing

HOME = Path(__file__).parent / "codec"
TARGET = Path(__file__).parent.parent / "tests" / "conformance" / "hessian2"
# Dubbo 2.7 has had 3.2.5 and then 3.2.13, Dubbo 3.3 has 4.0.4.
RELEASES = {
    "3.2.5": "com.alibaba:hessian-lite",
    "3.2.13": "com.alibaba:hessian-lite",
    "4.0.4": "org.apache.dubbo:hessian-lite",
}
# Longer values are kept compressed.
PLAIN_BYTES_MAX = 500


def run(command: list[str], given: str = "", timeout_s: float = 300) -> str:
    """What the command prints. JavaMissing when Maven cannot get an artefact."""
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        encoding="utf-8",
        cwd=HOME,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        said = done.stdout + done.stderr
        if "Could not" in said or "could not be resolved" in said:
            raise JavaMissing(f"Maven's artefacts are not to be had: {said[:300]}")
        raise RuntimeError(f"{command[0]} failed:\n{said}")
    return done.stdout


def jar(release: str) -> Path:
    """The release of hessian-lite, fetched where it is not there."""
    path = HOME / "target" / "lib" / f"hessian-lite-{release}.jar"
    if not path.exists():
        if shutil.which("mvn") is None:
            raise JavaMissing("no mvn on PATH")
        copy = [
            "org.apache.maven.plugins:maven-dependency-plugin:3.6.0:copy",
            f"-Dartifact={RELEASES[release]}:{release}",
            f"-DoutputDirectory={path.parent}",
        ]
        run(["mvn", "-q", "-B", *copy])
    return path


def recorder(release: str, mode: str, given: str = "") -> list[list[str]]:
    """Run the recorder; each line that it prints, cut at the tabulator."""
    for program in ("java", "javac"):
        if shutil.which(program) is None:
            raise JavaMissing(f"no {program} on PATH")
    library = jar(release)
    classes = HOME / "target" / release
    source = HOME / "Recorder.java"
    compiled = classes / "Recorder.class"
    if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
        classes.mkdir(parents=True, exist_ok=True)
        options = ["-nowarn", "-encoding", "UTF-8", "-cp", str(library), "-d", str(classes)]
        run(["javac", *options, str(source)])
    opened = [
        f"--add-opens=java.base/java.{name}=ALL-UNNAMED"
        for name in (*OPENED, "util.concurrent.atomic")
    ]
    output = run(["java", *opened, "-cp", f"{library}:{classes}", "Recorder", mode], given)
    return [line.split("\t", 1) for line in output.splitlines()]


def packed(data: bytes) -> str:
    """The bytes as hexadecimal digits, or if they are many compressed and in base64."""
    if len(data) <= PLAIN_BYTES_MAX:
        return data.hex()
    return "zlib " + base64.b64encode(zlib.compress(data, 9)).decode()


def unpacked(text: str) -> bytes:
    """What ``packed`` has packed."""
    if text.startswith("zlib "):
        return zlib.decompress(base64.b64decode(text[5:]))
    return bytes.fromhex(text)


def load(release: str) -> dict[str, bytes]:
    """The recording of a release: names of values, and their bytes."""
    recording = json.loads((TARGET / f"hessian-lite-{release}.json").read_text())
    return {name: unpacked(text) for name, text in recording["values"].items()}


def main() -> None:
    """Record every release."""
    for release in RELEASES:
        values = {}
        for name, text in recorder(release, "write"):
            if text.startswith("!"):
                raise RuntimeError(f"hessian-lite {release} cannot write {name}: {text}")
            values[name] = packed(bytes.fromhex(text))
        lines = [f" {json.dumps(name)}: {json.dumps(text)}" for name, text in values.items()]
        content = ",\n".join(lines)
        path = TARGET / f"hessian-lite-{release}.json"
        path.write_text(f'{{"hessian-lite": "{release}", "values": {{\n{content}\n}}}}\n')
        print(f"{path.name}: {len(values)} values")


if __name__ == "__main__":
    main()
