"""The same calls under TLS, with certificates made on the spot by ``openssl``."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from dragoman import cluster, rpc
from dragoman.errors import ConnectError, DragomanError
from tests.load_factor import load_factor
from tests.rpc.peers import RUNNERS, settle

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

ANY = "127.0.0.1:0"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, and NAME.pem with NAME.key for "server" and "client"."""
    place = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=place, check=True, capture_output=True)

    def key(name: str) -> list[str]:
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        return [*kind, "-keyout", f"{name}.key", "-subj", f"/CN={name}"]

    openssl("req", "-x509", *key("ca"), "-out", "ca.pem", "-days", "2")
    for name in ("server", "client"):
        (place / "names").write_text("subjectAltName=DNS:server.test,IP:127.0.0.1\n")
        openssl("req", *key(name), "-out", f"{name}.csr")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "names",
        )  # fmt: skip
    return place


def server_context(place: Path, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place / "server.pem", place / "server.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(place / "ca.pem")
    return context


def client_context(place: Path, *, own: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=place / "ca.pem")
    if own:
        context.load_cert_chain(place / "client.pem", place / "client.key")
    return context


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("mutual", [False, True])
def test_calls_of_every_size_pass_under_tls(
    runner: str, mutual: bool, certificates: Path, tmp_path: Path
) -> None:
    async def work() -> None:
        tls = server_context(certificates, mutual=mutual)
        own = client_context(certificates, own=mutual)
        for address in (ANY, f"unix:{tmp_path}/socket"):
            async with (
                await rpc.serve({"echo": lambda body: body}, address, tls=tls) as server,
                await rpc.connect(
                    str(server.address), tls=own, server_hostname="server.test"
                ) as client,
            ):
                bodies = [bytes([size % 251]) * size for size in (0, 1, 16384, 300_000, 5_000_000)]
                for _ in range(2):
                    calls = [client.call("echo", body) for body in bodies]
                    assert await asyncio.gather(*calls) == bodies
                many = [b"%d" % i for i in range(5000)]
                assert await client.call_many("echo", many) == many
                await settle(client, server)

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_whoever_cannot_show_what_is_asked_for_is_refused(runner: str, certificates: Path) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        echo = {"echo": lambda body: body}
        tls = server_context(certificates)
        async with await rpc.serve(echo, ANY, tls=tls) as server:
            address = str(server.address)
            with pytest.raises(ConnectError, match=r"TLS: .* from nobody who is trusted"):
                await rpc.connect(address, tls=ssl.create_default_context())
            with pytest.raises(ConnectError, match="TLS: the certificate is for another name"):
                await rpc.connect(
                    address, tls=client_context(certificates), server_hostname="other.test"
                )
            # A client that speaks no TLS, to a server that does.
            with pytest.raises(ConnectError):
                await rpc.connect(address, heartbeat_ms=200, connect_timeout_ms=2000)
            async with await rpc.connect(address, tls=client_context(certificates)) as client:
                assert await client.call("echo", b"x") == b"x"
            assert server.statistics().requests == 1
        async with await rpc.serve(
            echo, ANY, tls=server_context(certificates, mutual=True)
        ) as both:
            with pytest.raises(DragomanError):
                async with await rpc.connect(
                    str(both.address), tls=client_context(certificates), reconnect=False
                ) as client:
                    await client.call("echo", b"x")
            assert both.statistics().requests == 0
        async with await rpc.serve(echo, ANY) as plain:
            with pytest.raises(ConnectError):
                await rpc.connect(str(plain.address), tls=client_context(certificates))

    RUNNERS[runner](work())


def test_tls_on_a_unix_socket_wants_a_name_to_check(certificates: Path, tmp_path: Path) -> None:
    async def work() -> None:
        address = f"unix:{tmp_path}/socket"
        tls = server_context(certificates)
        async with await rpc.serve({"echo": lambda body: body}, address, tls=tls):
            with pytest.raises(ConnectError, match="server_hostname"):
                await rpc.connect(address, tls=client_context(certificates))

    asyncio.run(work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_client_without_tls_is_told_what_may_be_wrong(runner: str, certificates: Path) -> None:
    async def work() -> None:
        tls = server_context(certificates, mutual=False)
        server = await rpc.serve({"echo": lambda body: body}, "127.0.0.1:0", tls=tls)
        async with server:
            with pytest.raises(ConnectError, match="before its HELLO: does it expect TLS"):
                await rpc.connect(server.address, connect_timeout_ms=2000)
            with pytest.raises(DragomanError, match="before its HELLO: does it expect TLS"):
                await cluster.connect(
                    "s", endpoints=[server.address], connect_timeout_ms=int(1000 * load_factor())
                )

    RUNNERS[runner](work())
