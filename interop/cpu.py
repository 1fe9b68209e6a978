"""What a request costs the agents with a real Java provider: ``python -m interop.cpu``.

The same provider (Dubbo 2.7), once with hessian2 and once with fastjson, behind a provider's and a
consumer's agent; ``wrk`` calls ``text(String)`` with 32 characters over HTTP, by form and by JSON.
Measured is the agents' CPU, user and system, over the requests that were answered right: those of
another kind fail the measurement. Rounds of both serializations alternate.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from interop.java import JavaMissing, build
from interop.mesh import HOST, TYPES, Mesh, mesh
from interop.programs import Program
from interop.scenarios import start

RELEASE = "2.7"
TEXT = "dragoman" * 4
FORM = urlencode(
    {
        "interface": TYPES,
        "method": "text",
        "parameterTypesString": "Ljava/lang/String;",
        "parameter": TEXT,
    }
)
CONTRACTS = {
    "form": ("/", "application/x-www-form-urlencoded", FORM, TEXT),
    "json": (f"/{TYPES}/text", "application/json", f'{{"args": ["{TEXT}"]}}', f'"{TEXT}"'),
}
SCRIPT = """
wrk.method = "POST"
wrk.path = [==[{path}]==]
wrk.headers["content-type"] = [==[{kind}]==]
wrk.body = [==[{body}]==]
function response(status, headers, body)
    if status ~= 200 or body ~= [==[{answer}]==] then
        io.stderr:write("wrong " .. status .. " " .. body .. "\\n")
    end
end
"""


def load(port: int, contract: str, connections: int, seconds: float) -> int:
    """Calls for so many seconds; how many there were. AssertionError if one was wrong."""
    path, kind, body, answer = CONTRACTS[contract]
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "calls.lua"
        script.write_text(SCRIPT.format(path=path, kind=kind, body=body, answer=answer))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script)]
        command.append(f"http://{HOST}:{port}")
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "wrong" not in run.stderr, run.stderr[:300]
    assert "Socket errors" not in run.stdout, run.stdout
    found = re.search(r"(\d+) requests in", run.stdout)
    assert found, run.stdout
    return int(found[1])


class Chain:
    """A Java provider and its agents, in one serialization."""

    def __init__(self, stack: ExitStack, made: Mesh, serialization: str) -> None:
        provider_port = start(stack, RELEASE, serialization)
        own = ["--serialization", serialization]
        self.programs: list[Program] = [made.provider_agent(provider_port, *own)]
        consumer, self.port = made.consumer_agent()
        self.programs.append(consumer)
        made.wait_endpoints(self.port, 1)

    def cost_us(self, contract: str, connections: int, seconds: float) -> tuple[float, float]:
        """The agents' CPU a request in microseconds, and requests a second."""
        before = sum(program.cpu_s() for program in self.programs)
        began = time.perf_counter()
        requests = load(self.port, contract, connections, seconds)
        took = time.perf_counter() - began
        used = sum(program.cpu_s() for program in self.programs) - before
        return used * 1e6 / requests, requests / took


def main() -> int:
    """Run as a program; the exit code is 1 if hessian2 costs over 1.3 times what fastjson does."""
    parser = argparse.ArgumentParser(prog="python -m interop.cpu", description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        build()
    except JavaMissing as missing:
        print(f"interop.cpu: nothing was run: {missing}", file=sys.stderr)
        return 1
    dear = False
    with ExitStack() as stack:
        chains = {
            name: Chain(stack, stack.enter_context(mesh()), name)
            for name in ("fastjson", "hessian2")
        }
        for chain in chains.values():
            load(chain.port, "json", options.connections, 2.0)
        for contract in CONTRACTS:
            costs: dict[str, list[tuple[float, float]]] = {name: [] for name in chains}
            for _ in range(options.rounds):
                for name, chain in chains.items():
                    costs[name].append(
                        chain.cost_us(contract, options.connections, options.seconds)
                    )
            middle = {name: median(cost for cost, _ in found) for name, found in costs.items()}
            rates = {name: median(rate for _, rate in found) for name, found in costs.items()}
            ratio = middle["hessian2"] / middle["fastjson"]
            dear = dear or ratio > 1.3
            print(
                f"{contract}: fastjson {middle['fastjson']:.1f} us ({rates['fastjson']:,.0f}/s), "
                f"hessian2 {middle['hessian2']:.1f} us ({rates['hessian2']:,.0f}/s): {ratio:.2f}"
            )
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
