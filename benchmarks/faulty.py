"""One of three providers is slow, throws at once or rejects everything: what callers get under
every policy, on real agents.

    python -m benchmarks.faulty [--against PYTHON] [--seconds S] [--scene NAME] [--policy NAME]

``--against`` is the Python of another environment with dragoman: both are measured in turn. Three
demo providers with an agent each, one consumer's agent, callers that each ask again after their
answer; every answer is verified.

- ``slow``: 10, 10 and 100 ms, 32 callers: served a second, and p99 of all.
- ``throws``: 10 and 10 ms, and one that throws at once; 16 callers that pause 20 ms after each
  answer: the share that the thrower gets.
- ``rejects``: 10 and 10 ms, and one that rejects everything, ``--limit auto``, 32 callers: rejected
  tries for each call served, and calls that failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import aiohttp

from dragoman.demo.javahash import java_hash

INTERFACE = "com.alibaba.dubbo.performance.demo.provider.IHelloService"
POLICIES = (
    *("demand", "least-active", "p2c", "weighted-round-robin", "round-robin"),
    *("weighted-random", "random"),
)
# Throws at once, whatever it is asked.
THROWER = f"""
import asyncio, sys
from dragoman import dubbo

@dubbo.service("{INTERFACE}")
class Thrower:
    async def hash(self, text: str) -> int:
        raise ValueError("no")

async def serve():
    async with await dubbo.serve(Thrower(), int(sys.argv[1])):
        await asyncio.Event().wait()

asyncio.run(serve())
"""
SCENES: dict[str, tuple[list[str], list[str], int, float]] = {
    # The third provider's command; options of all agents; callers; their pause.
    "slow": (["demo", "provider", "--delay-ms", "100", "--port"], [], 32, 0.0),
    "throws": ([THROWER], [], 16, 0.02),
    "rejects": (
        ["demo", "provider", "--delay-ms", "0", "--fault", "reject", "--port"],
        *(["--limit", "auto"], 32, 0.0),
    ),
}
FIELDS = {
    "interface": INTERFACE,
    "method": "hash",
    "parameterTypesString": "Ljava/lang/String;",
    "parameter": "x",
}
WARM_S = 1.5
REQUESTS = "dragoman_provider_requests_total"
REJECTIONS = "dragoman_provider_rejections_total"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def chain(python: str, scene: str, policy: str) -> Iterator[tuple[int, list[int]]]:
    """The processes; the consumer agent's port, and the provider agents' admin ports."""
    third, agent_options, _, _ = SCENES[scene]
    running: list[subprocess.Popen[bytes]] = []

    def launch(*arguments: str) -> None:
        log = subprocess.DEVNULL
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [python, "-m", "dragoman", *arguments]
        if "\n" in arguments[0]:
            command = [python, "-c", *arguments]
        running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd="/"))

    try:
        agents, admins = [], []
        usual = ["demo", "provider", "--delay-ms", "10", "--port"]
        for command in (usual, usual, third):
            provider, agent, admin = free_port(), free_port(), free_port()
            launch(*command, str(provider))
            launch(
                *("agent", "provider", "--provider", f"127.0.0.1:{provider}"),
                *("--listen", f"127.0.0.1:{agent}", "--admin", f"127.0.0.1:{admin}"),
                *("--interface", INTERFACE, "--registry", "memory://alone"),
                *("--serialization", "fastjson", *agent_options),
            )
            agents.append(f"127.0.0.1:{agent}")
            admins.append(admin)
        port = free_port()
        launch(
            *("agent", "consumer", "--listen", f"127.0.0.1:{port}", "--policy", policy),
            *("--admin", f"127.0.0.1:{free_port()}", "--registry", f"static://{','.join(agents)}"),
        )
        yield port, admins
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait()


async def figure(session: aiohttp.ClientSession, admin: int, name: str) -> float:
    async with session.get(f"http://127.0.0.1:{admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return sum(float(each.rpartition(" ")[2]) for each in lines if each.startswith(name))


async def measure(port: int, admins: list[int], scene: str, seconds: float) -> dict[str, float]:
    _, _, callers, pause_s = SCENES[scene]
    took: list[float] = []
    ended: Counter[str] = Counter()
    right = str(java_hash("x"))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        ends = time.monotonic() + 40
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                if all(
                    [
                        await figure(session, each, "dragoman_provider_connections")
                        for each in admins
                    ]
                ):
                    async with session.post(f"http://127.0.0.1:{port}/", data=FIELDS) as reply:
                        if reply.status == 200:
                            break
            assert time.monotonic() < ends, "the chain does not serve"
            await asyncio.sleep(0.05)
        going = True
        counting = False

        async def caller() -> None:
            while going:
                began = time.perf_counter()
                async with session.post(f"http://127.0.0.1:{port}/", data=FIELDS) as reply:
                    text = await reply.text()
                if counting:
                    took.append(time.perf_counter() - began)
                    good = reply.status == 200 and text == right
                    ended["ok" if good else str(reply.status)] += 1
                if pause_s:
                    await asyncio.sleep(pause_s)

        tasks = [asyncio.ensure_future(caller()) for _ in range(callers)]
        await asyncio.sleep(WARM_S)

        async def figures(name: str) -> list[float]:
            return [await figure(session, each, name) for each in admins]

        sent = await figures(REQUESTS)
        rejected = await figures(REJECTIONS)
        counting = True
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        counting = False
        lasted = time.perf_counter() - began
        sent = [b - a for a, b in zip(sent, await figures(REQUESTS), strict=True)]
        rejected = [b - a for a, b in zip(rejected, await figures(REJECTIONS), strict=True)]
        going = False
        await asyncio.gather(*tasks)
    took.sort()
    total = max(1, sum(ended.values()))
    return {
        "served_s": round(ended["ok"] / lasted),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
        "third_share_pct": round(100 * sent[2] / max(1.0, sum(sent)), 1),
        "rejected_per_served": round(sum(rejected) / max(1, ended["ok"]), 3),
        "failed_pct": round(100 * (total - ended["ok"]) / total, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faulty", description=__doc__)
    parser.add_argument("--against", default="", help="Python of another environment")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--scene", choices=list(SCENES), action="append")
    parser.add_argument("--policy", choices=POLICIES, action="append")
    options = parser.parse_args()
    pythons = {"now": sys.executable}
    if options.against:
        pythons = {"before": options.against, **pythons}
    for scene in options.scene or SCENES:
        for policy in options.policy or POLICIES:
            for name, python in pythons.items():
                with chain(python, scene, policy) as (port, admins):
                    found = asyncio.run(measure(port, admins, scene, options.seconds))
                print(f"{scene:8} {policy:21} {name:7} {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
