"""What long strings cost in the codecs: ``python -m benchmarks.wire_strings``.

Nanoseconds of this process's CPU time for each byte of UTF-8, the best of five runs and their
median: JSON text to a hessian2 string as a provider's agent makes it of a call (decode, encode),
UTF-8 to a hessian2 string, and a hessian2 string to JSON text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

from dragoman.wire.hessian2 import encode, encode_string, to_json
from dragoman.wire.java.from_json import fit_json, java_type
from dragoman.wire.json.string import decode_string

KINDS = {
    "ASCII": "The quick brown fox jumps over the lazy dog, 0123456789. ",
    "latin": "Où est la bibliothèque? Él está allí; größer, naïve. ",
    "Chinese": "服务网格把调用送到最近的提供者，字符串很长。",
    "emoji": "so good \U0001f600\U0001f680 and ",
    "escapes": '{"a":"b\\c"}\t\n',
}
SIZES = {"1 KiB": 1 << 10, "32 KiB": 1 << 15, "1 MiB": 1 << 20, "8 MiB": 1 << 23}
TEXT = java_type("java.lang.String")


def of_size(piece: str, size: int) -> str:
    """``piece`` again and again, of about so many bytes."""
    return piece * max(1, size // len(piece.encode()))


def cost(once: Callable[[], object], size: int, total: int) -> tuple[float, float]:
    """Best and median nanoseconds a byte; a run goes through about ``total`` bytes."""
    times = []
    rounds = max(1, total // size)
    for _ in range(5):
        start = time.process_time_ns()
        for _ in range(rounds):
            once()
        times.append((time.process_time_ns() - start) / rounds / size)
    return min(times), statistics.median(times)


def main() -> int:
    """Run as a program."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.wire_strings", description=__doc__)
    options.add_argument("--bytes", type=int, default=1 << 25, help="a run's bytes (32 MiB)")
    arguments = options.parse_args()
    for kind, piece in KINDS.items():
        for name, size in SIZES.items():
            text = of_size(piece, size)
            raw = text.encode()
            said = json.dumps(text, ensure_ascii=False).encode()
            data = encode(text)
            assert json.loads(to_json(data)) == text
            assert encode_string(raw) == data
            assert decode_string(said) == raw
            rows: dict[str, Callable[[], object]] = {
                "JSON to hessian2": lambda said=said: encode(fit_json(said, TEXT)),  # type: ignore[misc]
                "UTF-8 to hessian2": lambda raw=raw: encode_string(raw),  # type: ignore[misc]
                "hessian2 to JSON": lambda data=data: to_json(data),  # type: ignore[misc]
                "JSON to UTF-8": lambda said=said: decode_string(said),  # type: ignore[misc]
            }
            for what, once in rows.items():
                best, median = cost(once, len(raw), arguments.bytes)
                print(f"{what:18} {kind:8} {name:7} {best:7.3f} {median:7.3f} ns a byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
