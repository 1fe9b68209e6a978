"""A registry in ZooKeeper and what others write there: clients, nodes and the URLs of providers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from kazoo.client import KazooClient

from dragoman.registry import Registry
from dragoman.registry.url import parse_zookeeper
from dragoman.registry.zookeeper import ZookeeperRegistry, ZookeeperSettings

from .conftest import INTERFACE
from .zookeeper_server import ZookeeperServer

QUICK = ZookeeperSettings(
    session_timeout_s=1.0, request_timeout_s=1.0, check_s=0.5, reconcile_s=60.0, grace_s=3.0
)
# Where a slow answer is not what is looked at.
PATIENT = ZookeeperSettings(session_timeout_s=30.0, request_timeout_s=30.0)


def opened(server: ZookeeperServer, settings: ZookeeperSettings = QUICK) -> ZookeeperRegistry:
    return ZookeeperRegistry([f"127.0.0.1:{server.port}"], settings=settings)


@contextmanager
def java(url: str) -> Iterator[KazooClient]:
    """Somebody else's client."""
    place = parse_zookeeper(url.partition("://")[2])
    client = KazooClient(hosts=",".join(place.hosts), timeout=5.0)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


def provider_url(port: int, more: str = "", interface: str = INTERFACE) -> str:
    return (
        f"dubbo://127.0.0.1:{port}/{interface}?anyhost=true&application=shop&dubbo=2.0.2"
        f"&interface={interface}&methods=hash&pid=1&release=2.7.23&side=provider"
        f"&timestamp=1700000000000{more}"
    )


def node(root: str, url: str, category: str = "providers", interface: str = INTERFACE) -> str:
    return f"{root}/{interface}/{category}/{quote(url, safe='')}"


def root_of(url: str) -> str:
    return parse_zookeeper(url.partition("://")[2]).root


async def addresses(registry: Registry) -> list[str]:
    return [each.address for each in (await registry.services()).get(INTERFACE, [])]
