"""The SDK when things go wrong: providers that die, stop, are full, are late or break the protocol.

Against a real etcd, with providers in processes of their own and behind agents.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import dubbo
from dragoman.agent.config import ProviderConfig
from dragoman.agent.provider import ProviderAgent
from dragoman.harness.etcd import EtcdServer
from dragoman.testing import DubboProvider, answers
from dragoman.wire import hessian2
from dragoman.wire.dubbo.frame import encode_frame
from tests.dubbo.sdk_provider import Work

ROOT = Path(__file__).parents[3]
WORK = "com.example.Work"

# So that no $echo goes before the calls to find it out.
SPOKEN = "serialization=hessian2"


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
def registry(etcd: EtcdServer, request: pytest.FixtureRequest) -> str:
    """The server, with a prefix of the test's own."""
    return f"{etcd.registry_url}/{abs(hash(request.node.nodeid))}"


class Provider:
    """``tests.dubbo.sdk_provider`` as a process."""

    def __init__(self, registry: str, limit: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.dubbo.sdk_provider", registry, str(limit)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = 0

    async def start(self) -> Provider:
        assert self.process.stdout is not None
        self.port = int(await asyncio.to_thread(self.process.stdout.readline))
        return self

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 15)


@contextlib.asynccontextmanager
async def providers(registry: str, count: int, limit: int = 200) -> AsyncIterator[list[Provider]]:
    made = [Provider(registry, limit) for _ in range(count)]
    try:
        yield list(await asyncio.gather(*(each.start() for each in made)))
    finally:
        for each in made:
            each.process.kill()
            each.process.wait()
            assert each.process.stdout is not None
            each.process.stdout.close()


class Load:
    """Callers that call without a break; what became of their calls."""

    def __init__(self, call: Any, callers: int) -> None:
        self.answers: Counter[int] = Counter()
        self.errors: list[dubbo.DragomanError] = []
        self._call = call
        self._stopping = False
        self._tasks = [asyncio.create_task(self._one()) for _ in range(callers)]

    async def _one(self) -> None:
        while not self._stopping:
            try:
                self.answers[await self._call()] += 1
            except dubbo.DragomanError as error:
                self.errors.append(error)
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


def test_a_provider_that_stops_under_load_costs_no_call(registry: str) -> None:
    async def main() -> None:
        async with providers(registry, 2) as two, dubbo.Client(registry) as client:
            work = client.service(Work)
            await client.ready(work, providers_min=2, timeout_ms=10_000)
            load = Load(lambda: work.nap(0.005), 50)
            await asyncio.sleep(0.5)
            two[0].process.terminate()
            assert await two[0].ended() == 0
            await asyncio.sleep(0.3)
            before = load.answers[two[1].process.pid]
            await asyncio.sleep(0.3)
            await load.stop()
            assert load.errors == []
            assert load.answers[two[0].process.pid] > 0
            assert load.answers[two[1].process.pid] > before > 0

    asyncio.run(main())


def test_a_restart_of_the_only_provider_costs_no_call_that_waits(registry: str) -> None:
    async def main() -> None:
        async with dubbo.Client(registry, on_full="wait", timeout_ms=20_000) as client:
            work = client.service(Work)
            async with providers(registry, 1) as first:
                await client.ready(work, timeout_ms=10_000)
                load = Load(lambda: work.nap(0.005), 20)
                await asyncio.sleep(0.3)
                first[0].process.terminate()
                assert await first[0].ended() == 0
            async with providers(registry, 1) as second:
                async with asyncio.timeout(15):
                    while not load.answers[second[0].process.pid]:
                        await asyncio.sleep(0.05)
                await load.stop()
            assert load.errors == []

    asyncio.run(main())


def test_a_provider_that_is_killed_costs_only_what_was_under_way_there(registry: str) -> None:
    async def main() -> None:
        async with providers(registry, 2) as two, dubbo.Client(registry) as client:
            work = client.service(Work)
            await client.ready(work, providers_min=2, timeout_ms=10_000)
            load = Load(lambda: work.nap(0.02), 50)
            await asyncio.sleep(0.5)
            two[0].process.kill()
            await two[0].ended()
            await asyncio.sleep(0.5)
            failed = len(load.errors)
            before = sum(load.answers.values())
            await asyncio.sleep(0.5)
            await load.stop()
            # Nothing fails any more, and it goes on.
            assert len(load.errors) == failed <= 50
            assert sum(load.answers.values()) > before
            assert {type(error) for error in load.errors} <= {dubbo.LinkLostError}
            assert not any(error.retry_safe for error in load.errors)

    asyncio.run(main())


def test_calls_that_a_full_provider_rejects_run_elsewhere() -> None:
    """Another consumer has taken the pool: status 100 means that the call never ran."""

    async def main() -> None:
        async with (
            await dubbo.serve(Work(), 0, limit=1) as full,
            await dubbo.serve(Work(), 0, limit=200) as free,
            dubbo.Client(f"dubbo://{full.address}?{SPOKEN}") as other,
            dubbo.Client(
                f"dubbo://{full.address}?{SPOKEN},{free.address}?{SPOKEN}", policy="round-robin"
            ) as client,
        ):
            holding = other.service(Work).nap(2.0)
            work = client.service(Work)
            await client.ready(work, providers_min=2)
            while full.statistics().in_progress == 0:
                await asyncio.sleep(0.001)
            outcomes = await asyncio.gather(*(work.who() for _ in range(40)))
            assert set(outcomes) == {os.getpid()}
            assert full.statistics().rejected > 0
            assert free.statistics().replies == 40
            assert client.statistics(work).retried == full.statistics().rejected
            assert await holding == os.getpid()

    asyncio.run(main())


def test_a_limit_that_is_known_is_never_exceeded() -> None:
    async def main() -> None:
        async with await dubbo.serve(Work(), 0, limit=5) as server:
            source = f"dubbo://{server.address}?limit=5&{SPOKEN}"
            async with dubbo.Client(source) as client:
                work = client.service(Work)
                await asyncio.gather(*(work.nap(0.01) for _ in range(100)))
            seen = server.statistics()
            assert (seen.rejected, seen.in_progress_max, seen.replies) == (0, 5, 100)

    asyncio.run(main())


def test_methods_that_take_long_are_no_failure() -> None:
    async def main() -> None:
        async with (
            await dubbo.serve(Work(), 0) as server,
            dubbo.Client(f"dubbo://{server.address}?{SPOKEN}") as client,
        ):
            work = client.service(Work)
            await work.who()
            slow = [work.nap(1.5) for _ in range(20)]
            for _ in range(14):
                await asyncio.sleep(0.1)
                assert await work.who() == os.getpid()
            assert set(await asyncio.gather(*slow)) == {os.getpid()}

    asyncio.run(main())


def test_a_provider_behind_its_agent_is_called_through_it(registry: str) -> None:
    async def main() -> None:
        async with await dubbo.serve(Work(), 0, limit=10) as server:
            agent = ProviderAgent(
                ProviderConfig(
                    listen="127.0.0.1:0",
                    provider=str(server.address),
                    interface=(WORK,),
                    version="1.0",
                    serialization="hessian2",
                    limit=10,
                    registry=registry,
                )
            )
            await agent.start()
            try:
                async with dubbo.Client(registry) as client:
                    work = client.service(Work)
                    await client.ready(work, timeout_ms=10_000)
                    await asyncio.gather(*(work.nap(0.01) for _ in range(100)))
                    with pytest.raises(dubbo.DeadlineError):
                        await dubbo.with_options(work, timeout_ms=50).nap(0.5)
                    assert await dubbo.send(work.who) is None
                    (listed,) = (await client.services())[WORK]
                    assert (listed.protocol, listed.version) == ("mesh", "1.0")
                    # The provider stops: its agent says so, and nothing is lost.
                    seen = server.statistics()
                    assert (seen.rejected, seen.clients) == (0, 1)
                    assert seen.in_progress_max <= 10
            finally:
                await agent.drain()

    asyncio.run(main())


def test_agents_and_native_providers_serve_side_by_side(registry: str) -> None:
    async def main() -> None:
        async with (
            await dubbo.serve(Work(), 0, registry=registry) as native,
            await dubbo.serve(Work(), 0) as hidden,
        ):
            agent = ProviderAgent(
                ProviderConfig(
                    listen="127.0.0.1:0",
                    provider=str(hidden.address),
                    interface=(WORK,),
                    version="1.0",
                    serialization="hessian2",
                    registry=registry,
                )
            )
            await agent.start()
            try:
                async with dubbo.Client(registry) as client:
                    work = client.service(Work)
                    await client.ready(work, providers_min=2, timeout_ms=10_000)
                    await asyncio.gather(*(work.nap(0.01) for _ in range(100)))
                    assert native.statistics().replies > 0
                    assert hidden.statistics().replies > 0
                    # Another version is another service.
                    with pytest.raises(dubbo.UnavailableError, match="no provider"):
                        await client.service(WORK, version="2.0").who()
            finally:
                await agent.drain()

    asyncio.run(main())


VALUE = hessian2.encode(1, 7)
WRONG: dict[str, answers.Answer] = {
    "silence": answers.SILENCE,
    "an empty body": answers.Body(b""),
    "a type beyond 5": answers.Body(hessian2.encode(6, 7)),
    "no value": answers.Body(hessian2.encode(1)),
    "half a string": answers.Body(hessian2.encode(1) + b"\x05ab"),
    "a reference to nothing": answers.Body(hessian2.encode(1) + b"\x51\x95"),
    "a class that is not defined": answers.Body(hessian2.encode(1) + b"\x65"),
    "ten thousand lists": answers.Body(hessian2.encode(1) + b"\x79" * 10_000),
    "a list of 2^31": answers.Body(hessian2.encode(1) + b"\x58I\x7f\xff\xff\xff"),
    "an unknown serialization": answers.Body(VALUE, serialization=8),
    "an unknown status": answers.Body(hessian2.encode("what?"), status=99),
    "another's id": answers.OfCall(
        lambda call: answers.Raw(encode_frame(call.id + 1000, VALUE, serialization=2, status=20))
    ),
}
BROKEN: dict[str, answers.Answer] = {
    "a frame must begin with da bb": answers.Raw(b"dubbo>"),
    "a body of negative length -2147483648": answers.OfCall(
        lambda call: answers.Raw(struct.pack(">HBBQI", 0xDABB, 2, 20, call.id, 0x80000000))
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_reply_is_an_error_of_its_call_alone(what: str) -> None:
    async def main() -> None:
        held = asyncio.Event()

        async def nap(_: float) -> int:
            await held.wait()
            return 7

        async with (
            DubboProvider(WORK, {"who": WRONG[what], "nap": nap}, version="1.0") as provider,
            dubbo.Client(f"{provider.url}?{SPOKEN}") as client,
        ):
            work = client.service(Work, timeout_ms=10_000)
            other = work.nap(1.0)
            with pytest.raises(
                (dubbo.ProtocolError, dubbo.DeadlineError, dubbo.RemoteError)
            ) as caught:
                await dubbo.with_options(work, timeout_ms=300).who()
            assert not caught.value.retry_safe
            held.set()
            # On the same connection.
            assert await other == 7
            assert provider.connected == 1

    asyncio.run(main())


@pytest.mark.parametrize("why", BROKEN)
def test_a_broken_frame_ends_the_connection_and_the_next_call_has_another(why: str) -> None:
    async def main() -> None:
        async with DubboProvider(WORK, version="1.0") as provider:
            provider.answer("who", BROKEN[why], 7)
            url = f"{provider.url}?{SPOKEN}"
            async with dubbo.Client(url, on_full="wait", timeout_ms=10_000) as client:
                work = client.service(Work)
                with pytest.raises(dubbo.ProtocolError) as caught:
                    await work.who()
                assert type(caught.value) is dubbo.ProtocolError
                at = f"{WORK}.who: provider {provider.address}"
                assert str(caught.value) == f"{at} broke the protocol: {why}"
                assert not caught.value.retry_safe
                assert await work.who() == 7
                assert provider.connected == 2

    asyncio.run(main())
