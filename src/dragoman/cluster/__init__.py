"""All endpoints of one service: registry + balance + flow + rpc.

    server = await cluster.serve({"greet": greet}, "10.0.0.7:0", name="greeter", registry=URL)
    pool = await cluster.connect("greeter", registry=URL)
    reply = await pool.call("greet", b"you")

``docs/rpc.md`` teaches it ("Many servers"). The consumer's agent uses the same ``Service``.
"""

from dragoman.cluster.opening import connect, serve
from dragoman.cluster.pool import Pool
from dragoman.cluster.server import RegisteredServer
from dragoman.cluster.statistics import EndpointStatistics, PoolStatistics

__all__ = [
    "EndpointStatistics",
    "Pool",
    "PoolStatistics",
    "RegisteredServer",
    "connect",
    "serve",
]


def __dir__() -> list[str]:
    return __all__
