"""Test doubles for programs that use ``dragoman.rpc``, ``dragoman.cluster`` and ``dragoman.dubbo``.

Clients, pools and servers run as they are, on virtual time and a simulated network. An hour takes
no time, nothing waits for a real socket, and a run can be repeated by its seed:

    from dragoman import rpc
    from dragoman.testing import SimulatedLoop, simulate

    async def work(loop: SimulatedLoop) -> bytes:
        loop.network.piece_bytes_max = 3
        async with rpc.serve({"echo": lambda body: body}, "server:1"):
            async with rpc.connect("server:1") as client:
                return await client.call("echo", b"hello")

    assert simulate(7, work) == b"hello"

Any test runner will do. ``docs/testing.md`` has an example of each.
"""

from dragoman.testing import answers
from dragoman.testing.dubbo_provider import DubboProvider
from dragoman.testing.failing_registry import FailingRegistry
from dragoman.testing.loop import SimulatedLoop, StalledError
from dragoman.testing.network import Connection, End, Listener, Network
from dragoman.testing.received import ReceivedCall
from dragoman.testing.simulation import at_rest, seeded, simulate

__all__ = [
    "Connection",
    "DubboProvider",
    "End",
    "FailingRegistry",
    "Listener",
    "Network",
    "ReceivedCall",
    "SimulatedLoop",
    "StalledError",
    "answers",
    "at_rest",
    "seeded",
    "simulate",
]
