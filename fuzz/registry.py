"""Random and hostile entries of a registry: decoded, listed, changed, deleted in any order.

Invariants: an entry is a registration or a ProtocolError of one line, whatever its name and value;
what the directory knows after any changes is what a plain model of them says, service by service
and address by address; no name stands for another service; a caller is told NotFoundError for what
is not listed; when all has gone and the time is over, nothing is kept. An input is a seed, on a
simulated loop whose network knows none of the hosts.

    python -m fuzz.registry --seconds 600 --seed 1
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

from dragoman.cluster.directory import EMPTY_S, Directory, service_key
from dragoman.cluster.options import Options
from dragoman.errors import NotFoundError, ProtocolError, UnavailableError
from dragoman.registry.changes import Snapshots
from dragoman.registry.dubbo_url import read_provider
from dragoman.registry.registration import Registration, decode_entry
from dragoman.testing import SimulatedLoop, simulate
from fuzz.running import main

PREFIX = "/p"
INTERFACES = ["a.B", "a.C", "x", "*", "a.B:1.0", "%2A", "a.B%2F", "g", "é", "a" * 512]
ADDRESSES = ["h:1", "h:2", "127.0.0.1:1", "[::1]:1", "nobody.invalid:65535", "10.255.255.1:9"]
LABELS = ["", "g", "1.0", "0.0.0", "a/b", "g/a.B", ":", "*", "a,b", "ü", "\x00", "l" * 256]
PROTOCOLS = ["mesh", "mesh", "dubbo", "rpc", "unknown", ""]
NAMES = [
    b"",
    b"/",
    b"h:0",
    b"h:65536",
    b"h:-1",
    b":1",
    b"h:1/x",
    b"h\n:1",
    b"n" * 50_000,
    b"\xff\xfe:1",
    b"h" * 300 + b":1",
]
VALUES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"{",
    b'{"weight":0}',
    b'{"weight":1e99}',
    b'{"limit":-1}',
    b'{"token":"\\u0000"}',
    b'{"methods":' + b"[" * 2000,
    b'{"group":"\xff"}',
    b'{"leaving":true}',
    b"x" * 20000,
]


def check_entry(source: random.Random) -> None:
    """Decode one entry of etcd and one of ZooKeeper, of hostile parts."""
    name = source.choice([*(each.encode() for each in ADDRESSES), *NAMES, source.randbytes(9)])
    interface = source.choice([*INTERFACES, "", "a b", "a/b"]).encode()
    value = source.choice([*VALUES, source.randbytes(source.randrange(40))])
    key = (b"/p/" + interface + b"/" + name).decode("utf-8", "replace")
    url = name.decode("latin-1")
    said = "&".join(f"{source.choice(LABELS)}={source.choice(LABELS)}" for _ in range(3))
    for read in (
        lambda: decode_entry(PREFIX, key, value),
        lambda: read_provider(f"dubbo://{url}/a.B?{said}", "a.B"),
        lambda: read_provider(url, "a.B"),
    ):
        try:
            read()
        except ProtocolError as error:
            assert str(error).isprintable() and len(str(error)) < 5000, error


def some_registration(source: random.Random) -> Registration:
    """One of few places, so that they meet."""
    host, _, port = source.choice(ADDRESSES).rpartition(":")
    return Registration(
        interface=source.choice(INTERFACES),
        host=host.strip("[]"),
        port=int(port),
        weight=source.choice((1, 2)),
        protocol=source.choice(PROTOCOLS),
        group=source.choice(LABELS),
        version=source.choice(LABELS),
        token=source.choice(("", "t1", "t2")),
    )


def listed_by_service(registrations: list[Registration]) -> dict[bytes, set[str]]:
    """A plain model of a directory's knowledge of these."""
    services: dict[bytes, set[str]] = defaultdict(set)
    for each in registrations:
        if ":" in each.interface or each.interface == "*" or "/" in each.version:
            continue
        if each.protocol != "rpc":
            services[service_key(each.interface, each.group, each.version)].add(each.address)
    return services


def known(directory: Directory) -> dict[bytes, set[str]]:
    """The directory's knowledge."""
    return {
        key: addresses
        for key, service in directory.services.items()
        if (addresses := {*service.endpoints, *service.unusable})
    }


def once(seed: int) -> None:
    """Check the invariants for one seed."""
    source = random.Random(seed)
    for _ in range(20):
        check_entry(source)

    async def work(loop: SimulatedLoop) -> None:
        directory = Directory(loop, Options())
        snapshots = Snapshots(loop, directory.change, directory.complete)
        listed: dict[tuple[str, ...], Registration] = {}
        for _ in range(source.randrange(2, 12)):
            for _ in range(source.choice((1, 5, 200))):
                one = some_registration(source)
                place = (one.interface, one.address, one.protocol, one.group, one.version)
                if source.random() < 0.6:
                    listed[place] = one
                else:
                    listed.pop(place, None)
            snapshots.take(list(listed.values()))
            if source.random() < 0.3:
                continue  # the next list comes before this one has been gone into
            await asyncio.sleep(source.choice((0.0, 0.001, 5.0)))
            asked = source.choice(INTERFACES), source.choice(LABELS), source.choice(LABELS)
            try:
                directory.find(*asked)
            except (NotFoundError, UnavailableError):
                assert service_key(*asked) not in directory.services
        await asyncio.sleep(5)
        assert known(directory) == listed_by_service(list(listed.values())), seed
        snapshots.take([])
        await asyncio.sleep(EMPTY_S * 3)
        assert not directory.services, (seed, list(directory.services))
        assert not known(directory)
        await directory.close()

    simulate(seed, work)


if __name__ == "__main__":
    main(once, __doc__)
