"""What Dubbo writes for single values: ``python -m interop.dubbo_values`` records it.

``interop/codec/Values.java`` writes them with each release in each serialization; the recording is
``tests/conformance/dubbo/values.json``, by name, then by release and serialization, in hexadecimal.
What a release cannot write is missing.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from interop.java import HOME, OPENED, RELEASES, build

SOURCE = Path(__file__).parent / "codec" / "Values.java"
TARGET = Path(__file__).parent.parent / "tests" / "conformance" / "dubbo" / "values.json"
RUNS = [
    ("2.6", "hessian2"),
    ("2.7", "hessian2"),
    ("2.7", "fastjson"),
    ("3.3", "hessian2"),
    ("3.3", "fastjson2"),
]


def written(release: str, serialization: str) -> dict[str, str]:
    """What a release writes: the name of each value, and its bytes in hexadecimal."""
    library = f"{HOME / RELEASES[release]}/target/lib/*"
    classes = SOURCE.parent / "target" / f"values-{release}"
    (classes / "security").mkdir(parents=True, exist_ok=True)
    (classes / "security" / "serialize.allowlist").write_text("Values\n")
    java = ["javac", "-nowarn", "-encoding", "UTF-8", "-cp", library, "-d", str(classes)]
    subprocess.run([*java, str(SOURCE)], check=True, capture_output=True)
    packages = (*OPENED, "util.concurrent.atomic", "nio.charset")
    command = ["java", *[f"--add-opens=java.base/java.{each}=ALL-UNNAMED" for each in packages]]
    package = "com.alibaba.dubbo" if release == "2.6" else "org.apache.dubbo"
    command += ["-cp", f"{classes}:{library}", "Values", package, serialization]
    run = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    lines = [line.partition("\t") for line in run.stdout.splitlines() if "\t" in line]
    return {name: data for name, _, data in lines if not data.startswith("!")}


def main() -> None:
    """Record everything."""
    build()
    recorded: dict[str, dict[str, str]] = {}
    for release, serialization in RUNS:
        for name, data in written(release, serialization).items():
            recorded.setdefault(name, {})[f"{release} {serialization}"] = data
    TARGET.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{len(recorded)} values -> {TARGET}")


if __name__ == "__main__":
    main()
