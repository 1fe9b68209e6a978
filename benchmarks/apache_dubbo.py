"""The SDK's client beside PyPI's ``apache-dubbo``: ``python -m benchmarks.apache_dubbo``.

Calls a second of ``hash(String)``, one client process and one provider process. ``apache-dubbo``
speaks Triple alone, so each client has a provider of its own kind: a server of ``apache-dubbo``,
and one of the SDK. Both clients block; threads share one client. Every reply is checked.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks import dubbo as sdk
from dragoman import dubbo
from dragoman.demo.javahash import java_hash
from dragoman.harness.etcd import free_ports

TEXT, ANSWER = sdk.TEXT, sdk.ANSWER
THREADS = (1, 8, 32)


def provide_apache(port: int, pipe: Any) -> None:
    """The provider's process."""
    from dubbo.configs import ServiceConfig
    from dubbo.proxy.handlers import RpcMethodHandler, RpcServiceHandler

    import dubbo as apache

    handler = RpcMethodHandler.unary(
        method=java_hash,
        method_name="hash",
        request_deserializer=bytes.decode,
        response_serializer=lambda value: str(value).encode(),
    )
    service = RpcServiceHandler(service_name=sdk.INTERFACE, method_handlers=[handler])
    server = apache.Server(ServiceConfig(service, host="127.0.0.1", port=port)).start()
    pipe.send(port)
    pipe.recv()
    del server


def rate(call: Callable[[str], Any], threads: int, seconds: float) -> float:
    """Calls a second of so many threads."""
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def one(index: int) -> None:
        while time.perf_counter() < until:
            assert call(TEXT) == ANSWER
            counts[index] += 1

    began = time.perf_counter()
    workers = [threading.Thread(target=one, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def measure_apache(port: int, seconds: float) -> dict[str, float]:
    """``apache-dubbo``'s client."""
    from dubbo.configs import ReferenceConfig

    import dubbo as apache

    url = f"tri://127.0.0.1:{port}/{sdk.INTERFACE}"
    client = apache.Client(ReferenceConfig.from_url(url))
    call = client.unary(
        method_name="hash", request_serializer=str.encode, response_deserializer=int
    )
    call(TEXT)
    return {f"{threads} threads": rate(call, threads, seconds) for threads in THREADS}


def measure_sdk(port: int, seconds: float) -> dict[str, float]:
    """The SDK's synchronous client."""
    with dubbo.connect_sync(f"dubbo://127.0.0.1:{port}", timeout_ms=30_000) as client:
        call: Any = client.service(sdk.Hello).hash
        call(TEXT)
        return {f"{threads} threads": rate(call, threads, seconds) for threads in THREADS}


def _measured(
    target: Callable[..., dict[str, float]], port: int, seconds: float, pipe: Any
) -> None:
    pipe.send(target(port, seconds))
    pipe.recv()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    (apache_port,) = free_ports(1)
    found: dict[str, list[dict[str, float]]] = {"apache-dubbo": [], "dragoman": []}
    for _ in range(options.rounds):
        for name, provide, arguments, measure in (
            ("apache-dubbo", provide_apache, (apache_port,), measure_apache),
            ("dragoman", sdk.provide, (), measure_sdk),
        ):
            pipe, its_end = context.Pipe()
            order = (*arguments, its_end) if arguments else (its_end, 0)
            provider = context.Process(target=provide, args=order, daemon=True)
            provider.start()
            port = pipe.recv()
            time.sleep(0.5)
            mine, its = context.Pipe()
            client = context.Process(
                target=_measured, args=(measure, port, options.seconds, its), daemon=True
            )
            client.start()
            found[name].append(mine.recv())
            for each in (client, provider):
                each.terminate()
                each.join(10)
    medians = {
        name: {
            threads: sorted(each[threads] for each in rounds)[len(rounds) // 2]
            for threads in rounds[0]
        }
        for name, rounds in found.items()
    }
    for threads, slow in medians["apache-dubbo"].items():
        fast = medians["dragoman"][threads]
        print(f"{threads:12} {slow:10,.0f} {fast:10,.0f} calls/s, {fast / slow:.1f} times")
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
