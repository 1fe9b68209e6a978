"""All contestants by name, in the order in which they are shown. Used by all processes."""

from __future__ import annotations

from importlib import import_module

from dragoman.bench.rpc.contestant import Contestant
from dragoman.errors import UsageError

# Modules are imported by whoever runs them: an idle conductor needs none of the peers.
_CLASSES = {
    "dragoman": "library.Library",
    "prototype": "prototype.Prototype",
    "floor-sockets": "floor_sockets.FloorSockets",
    "floor-uvloop": "floor_uvloop.FloorUvloop",
    "streams": "peer_streams.PeerStreams",
    "zmq": "peer_zmq.PeerZmq",
    "grpc": "peer_grpc.PeerGrpc",
    "http": "peer_http.PeerHttp",
}
NAMES = tuple(_CLASSES)


def contestant(name: str) -> Contestant:
    """The contestant of that name. Raises UsageError."""
    if name not in _CLASSES:
        raise UsageError(f"no contestant {name!r}: expected {', '.join(NAMES)}")
    module, _, kind = _CLASSES[name].partition(".")
    found: Contestant = getattr(import_module(f"dragoman.bench.rpc.{module}"), kind)()
    return found
