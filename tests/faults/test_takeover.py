"""Restarts without a gap: an agent takes another's place on its sockets, under load."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest

from dragoman.agent import takeover
from dragoman.agent.activation import activated
from dragoman.demo.javahash import java_hash
from tests.faults.chain import Chain, Program, chain
from tests.faults.http import client, exchange, form, form_body, is_hash
from tests.waiting import until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EXPECTED = str(java_hash("x"))


class Small:
    """A provider that is called straight from the agents."""

    def __init__(self, made: Chain) -> None:
        self.chain = made
        self.provider = made.provider("provider", "--delay-ms", "5")
        at = f"127.0.0.1:{self.provider.port}"
        self.registry = f"static://{at}?protocol=dubbo&serialization=fastjson"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with chain(tmp_path_factory.mktemp("takeover")) as made:
        small = Small(made)
        asyncio.run(small.provider.start())
        yield small


def next_of(small: Small, name: str, port: int, admin: int, *options: str) -> Program:
    """One more agent on the same addresses."""
    arguments = ["agent", "consumer", "--listen", f"127.0.0.1:{port}"]
    arguments += ["--admin", f"127.0.0.1:{admin}", "--registry", small.registry]
    program = Program(small.chain, name, [*arguments, "--drain-ms", "4000", *options], port, admin)
    small.chain.programs.append(program)
    return program


async def serves(port: int) -> bool:
    async with client(port) as one:
        return is_hash(await one.ask(form("x")), "x")


class Callers:
    """Clients of several kinds that ask without end; ``ended`` counts how each request ended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ended: Counter[str] = Counter()
        self.going = True

    async def pooled(self, session: aiohttp.ClientSession) -> None:
        url = f"http://127.0.0.1:{self.port}/"
        while self.going:
            try:
                async with session.post(url, data=form_body("x"), headers=FORM) as response:
                    text = await response.text()
                    right = response.status == 200 and text == EXPECTED
                    self.ended["ok" if right else f"{response.status} {text}"] += 1
            except (aiohttp.ClientError, OSError) as error:
                self.ended[f"pooled: {type(error).__name__}: {error}"] += 1

    async def raw(self) -> None:
        """Keeps its connection until it is told that it ends."""
        while self.going:
            try:
                async with client(self.port) as one:
                    closes = False
                    while self.going and not closes:
                        answer = await one.ask(form("x"))
                        self.ended["ok" if is_hash(answer, "x") else f"raw: {answer.status}"] += 1
                        closes = answer.closes
            except (EOFError, OSError) as error:
                self.ended[f"raw: {type(error).__name__}: {error}"] += 1

    async def once(self) -> None:
        """A connection for each request."""
        while self.going:
            try:
                async with client(self.port) as one:
                    answer = await one.ask(form("x"))
                    self.ended["ok" if is_hash(answer, "x") else f"once: {answer.status}"] += 1
            except (EOFError, OSError) as error:
                self.ended[f"once: {type(error).__name__}: {error}"] += 1


async def restarts(small: Small, count: int, workers: list[str]) -> Counter[str]:
    """Take over ``count`` times under load; the outcomes."""
    port, admin = small.chain.port(f"over{count}"), small.chain.port(f"over{count}-admin")
    agents = [next_of(small, f"over{count}-0", port, admin, "--takeover", "--workers", workers[0])]
    await agents[0].start()
    await until(lambda: serves(port))
    callers = Callers(port)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:
        tasks = [asyncio.ensure_future(callers.pooled(session)) for _ in range(16)]
        tasks += [asyncio.ensure_future(callers.raw()) for _ in range(8)]
        tasks += [asyncio.ensure_future(callers.once()) for _ in range(4)]
        for i in range(1, count + 1):
            options = ("--takeover", "--workers", workers[i % len(workers)])
            agent = next_of(small, f"over{count}-{i}", port, admin, *options)
            agents.append(agent.launch())

            def in_place(agent: Program = agent) -> bool:
                assert agent.runs, agent.tail()
                return "in the place of process" in agent.text()

            await until(in_place, 30.0, agent.tail)
            before = callers.ended["ok"]
            await until(lambda n=before: callers.ended["ok"] > n + 50, 15.0)
            while len(agents) > 3:
                assert await agents.pop(0).ended(20.0) == 0
        # The pages are the last one's.
        assert (await exchange(admin, "GET", "/readyz")).status == 200
        assert (await agents[-1].status())["pid"] == agents[-1].pid
        callers.going = False
        await asyncio.gather(*tasks)
    for agent in agents[:-1]:
        assert await agent.ended(20.0) == 0
    assert await agents[-1].stop() == 0
    return callers.ended


def test_an_agent_that_takes_anothers_place_fails_nobody(small: Small) -> None:
    """From one worker to two, to one, to two."""
    ended = asyncio.run(restarts(small, 3, ["1", "2"]))
    assert set(ended) == {"ok"}, ended


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_restarts_under_load_fail_nobody(small: Small) -> None:
    ended = asyncio.run(restarts(small, 50, ["1", "1", "2", "3", "2"]))
    assert set(ended) == {"ok"}, ended


def test_what_does_not_come_to_serve_changes_nothing(small: Small) -> None:
    async def scenario() -> None:
        port, admin = small.chain.port("stays"), small.chain.port("stays-admin")
        agent = next_of(small, "stays", port, admin)
        await agent.start()
        await until(lambda: serves(port))
        # Without being asked to, no second one comes beside it.
        for options in ((), ("--workers", "2")):
            beside = next_of(small, f"beside{len(options)}", port, 0, *options)
            beside.arguments[5] = f"127.0.0.1:{small.chain.port('beside-admin')}"
            beside.launch()
            assert await beside.ended(30.0) == 2
            assert "the port is in use" in beside.text()
        # One that is killed before it is ready: it knows nobody, and waits.
        nowhere = f"etcd://127.0.0.1:{small.chain.port('nowhere')}"
        late = next_of(small, "late", port, admin, "--takeover")
        late.arguments[late.arguments.index(small.registry)] = nowhere
        late.launch()
        await until(lambda: "is taking over" in agent.text(), 30.0, late.tail)
        # Another one meanwhile is told so.
        third = next_of(small, "third", port, admin, "--takeover").launch()
        assert await third.ended(30.0) == 2
        assert "another agent is taking over" in third.text()
        late.kill()
        await until(lambda: "has not taken over" in agent.text())
        async with client(port) as one:
            assert is_hash(await one.ask(form("a")), "a")
        # And then one that is.
        heir = next_of(small, "heir", port, admin, "--takeover").launch()
        await until(lambda: "in the place of process" in heir.text(), 30.0, heir.tail)
        assert await agent.ended() == 0
        async with client(port) as one:
            assert is_hash(await one.ask(form("b")), "b")
        assert await heir.stop() == 0

    asyncio.run(scenario())


def test_sockets_go_to_the_same_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each end asks the kernel who the other is, before anything is passed."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            handed: list[int] = []
            offer = takeover.Offer(
                address, lambda: takeover.Handed([listener], [], True), handed.append
            )
            await offer.start()
            real = takeover._peer
            me = os.geteuid()

            def foreign_to(uids: list[int]) -> None:
                monkeypatch.setattr(
                    takeover, "_peer", lambda sock: (real(sock)[0], uids.pop(0) if uids else me)
                )

            foreign_to([me + 1])  # the new one looks first
            with pytest.raises(takeover.UsageError, match="of another user"):
                await takeover.take(address)
            await until(lambda: offer._task is not None and offer._task.done())
            foreign_to([me, me + 1])
            with pytest.raises(takeover.UsageError, match="it belongs to another user"):
                await takeover.take(address)
            foreign_to([])
            # Whoever connects and says nothing, or nonsense, gets nothing and keeps nobody out.
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as rude:
                rude.connect(takeover.name_of(address))
                rude.send(b"nonsense")
                await until(lambda before=offer._task: offer._task is not before)
                await until(lambda: offer._task is not None and offer._task.done())
            inherited = await takeover.take(address)
            assert inherited is not None and inherited.pid == os.getpid()
            assert [each.getsockname() for each in inherited.listen] == [listener.getsockname()]
            assert handed == []
            await inherited.ready()
            assert handed == [os.getpid()]
            assert await takeover.take(address) is None
            for each in inherited.listen:
                each.close()
            offer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_socket_of_systemd_is_served_and_outlives_the_agent(small: Small, workers: int) -> None:
    async def scenario() -> None:
        with (
            socket.create_server(("127.0.0.1", 0), backlog=64) as listener,
            socket.create_server(("127.0.0.1", 0), backlog=64) as pages,
        ):
            port, admin = listener.getsockname()[1], pages.getsockname()[1]
            agent = next_of(small, f"activated{workers}", 1, admin, "--workers", str(workers))
            del agent.arguments[2:6]  # neither --listen nor --admin
            agent.port = port
            agent.sockets = [(listener, "http"), (pages, "admin")]
            async with client(port) as early:
                early.send(form("early"))
                await agent.start()
                assert is_hash(await early.response(), "early")
            agent.signal(signal.SIGTERM)
            assert await agent.ended() == 0
            # Nobody serves now, and nobody is refused.
            async with client(port) as waiting:
                waiting.send(form("waiting"))
                await agent.start()
                assert is_hash(await waiting.response(), "waiting")
            assert await agent.stop() == 0

    asyncio.run(scenario())


def test_a_successor_that_says_nothing_keeps_nobody_out_and_ends_when_it_wakes_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "SILENT_S", 0.3)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            handed: list[int] = []
            offer = takeover.Offer(
                address, lambda: takeover.Handed([listener], [], True), handed.append
            )
            await offer.start()
            monkeypatch.setattr(takeover, "BEAT_S", 3600.0)
            hung = await takeover.take(address)
            assert hung is not None
            monkeypatch.setattr(takeover, "BEAT_S", 0.02)
            heir = None
            async with asyncio.timeout(20):
                while heir is None:
                    try:
                        heir = await takeover.take(address)
                    except takeover.UsageError as error:
                        assert "another agent is taking over" in str(error)
            # This one says that it is there, and may take its time.
            await asyncio.sleep(1.0)
            assert offer._task is not None and not offer._task.done() and handed == []
            await heir.ready()
            assert handed == [os.getpid()]
            with pytest.raises(takeover.UsageError, match=r"was silent for .* been given up"):
                await hung.ready()
            assert len(handed) == 1
            for each in (*hung.listen, *heir.listen):
                each.close()
            offer.close()

    asyncio.run(scenario())


def test_a_successor_that_was_given_up_stops_serving(small: Small) -> None:
    """A real one, beside an agent that has given it up while it slept."""

    async def scenario() -> None:
        port, admin = small.chain.port("given-up"), small.chain.port("given-up-admin")
        with (
            socket.create_server(("127.0.0.1", port)) as listener,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as place,
        ):
            place.bind(takeover.name_of(f"127.0.0.1:{port}"))
            place.listen(1)
            agent = next_of(small, "given-up", port, admin, "--takeover").launch()
            met = await asyncio.to_thread(place.accept)
            with met[0] as before:
                before.recv(4096)
                record = takeover.Socket("listen", own=True, left=0)
                takeover._send(before, record, [listener.fileno()])
                takeover._send(before, takeover.Refused("enough"))
                assert await agent.ended(30.0) == 2
        (line,) = [each for each in agent.text().splitlines() if each.startswith("dragoman:")]
        assert line.startswith("dragoman: --takeover: the agent before, process ")
        assert line.endswith(": enough")

    asyncio.run(scenario())


def test_the_meeting_place_goes_by_what_is_listened_on_not_by_how_it_is_called(
    small: Small,
) -> None:
    async def scenario() -> None:
        port, admin = small.chain.port("named"), small.chain.port("named-admin")
        agent = next_of(small, "named", port, admin)
        await agent.start()
        heir = next_of(small, "named-otherwise", port, admin, "--takeover")
        heir.arguments[3] = f"localhost:{port}"
        heir.launch()
        await until(lambda: "in the place of process" in heir.text(), 30.0, heir.tail)
        assert await agent.ended() == 0
        # All addresses are others than one: what was taken over would be listened on elsewhere.
        wider = next_of(small, "wider", port, 0, "--takeover")
        wider.arguments[3] = f"0.0.0.0:{port}"
        wider.arguments[5] = f"127.0.0.1:{small.chain.port('wider-admin')}"
        assert await wider.launch().ended(30.0) == 2
        assert f"cannot listen on 0.0.0.0:{port}: the port is in use" in wider.text()
        assert await serves(port)
        assert await heir.stop() == 0
        everywhere = next_of(small, "everywhere", port, admin)
        everywhere.arguments[3] = f"0.0.0.0:{port}"
        await everywhere.start()
        await until(lambda: "ready on" in everywhere.text())
        assert await narrow(port).ended(30.0) == 2
        assert await everywhere.stop() == 0

    def narrow(port: int) -> Program:
        one = next_of(small, "narrow", port, small.chain.port("wider-admin"), "--takeover")
        return one.launch()

    asyncio.run(scenario())
    assert "the agent there listens on 0.0.0.0:" in small.chain.programs[-1].text()


def test_an_agent_that_drains_or_is_just_taken_over_from_is_waited_for(small: Small) -> None:
    async def scenario() -> None:
        port, admin = small.chain.port("drains"), small.chain.port("drains-admin")
        agent = next_of(small, "drains", port, admin, "--workers", "2")
        await agent.start()
        async with client(port) as kept:
            assert is_hash(await kept.ask(form("a")), "a")
            agent.signal(signal.SIGTERM)
            heir = next_of(small, "drains-heir", port, admin, "--takeover").launch()
            await until(lambda: "ready on" in heir.text(), 30.0, heir.tail)
            assert await serves(port)
        assert await agent.ended() == 0
        # Two at once: one of them takes the place, the other is told, or takes it after that.
        both = [next_of(small, f"drains-{i}", port, admin, "--takeover").launch() for i in "ab"]
        await until(lambda: heir.returncode is not None, 30.0, heir.tail)
        await until(lambda: any("in the place of" in each.text() for each in both), 30.0, heir.tail)
        assert await serves(port)
        for each in both:
            if each.runs:
                # The one that waits may not have come to where it takes signals.
                assert await each.stop(30.0) in (0, -signal.SIGTERM)
            else:
                assert each.returncode in (0, 2), each.tail()

    asyncio.run(scenario())


def test_settings_that_cannot_be_leave_the_agent_before_as_it_is(small: Small) -> None:
    async def scenario() -> None:
        port, admin = small.chain.port("other"), small.chain.port("other-admin")
        agent = next_of(small, "other", port, admin)
        await agent.start()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            used = taken.getsockname()[1]
            heir = next_of(small, "other-used", port, used, "--takeover")
            assert await heir.launch().ended(30.0) == 2
            assert f"admin address 127.0.0.1:{used}: the port is in use" in heir.text()
        await until(lambda: "has not taken over" in agent.text(), why=agent.tail)
        assert await serves(port)
        # Elsewhere, and with other settings, it may.
        moved = small.chain.port("other-moved")
        heir = next_of(small, "other-moved", port, moved, "--takeover", "--policy", "random")
        await heir.start()
        await until(lambda: "in the place of process" in heir.text(), 30.0, heir.tail)
        assert await agent.ended() == 0 and await serves(port)
        assert await heir.stop() == 0

    asyncio.run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_real_process_of_another_user_gets_nothing(small: Small) -> None:
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.settimeout(20)\n"
        "s.connect('\\0' + sys.argv[1])\n"
        's.send(b\'{"type":"take","version":2}\')\n'
        "print(*socket.recv_fds(s, 4096, 8)[:2])\n"
    )

    async def scenario() -> None:
        port, admin = small.chain.port("mine"), small.chain.port("mine-admin")
        agent = next_of(small, "mine", port, admin)
        await agent.start()
        await until(lambda: "ready on" in agent.text())
        name = takeover.name_of(f"127.0.0.1:{port}")[1:]
        child = await asyncio.create_subprocess_exec(
            *("/usr/bin/env", "python3", "-c", script, name),
            stdout=asyncio.subprocess.PIPE,
            user=65534,
            cwd="/",
        )
        said, _ = await child.communicate()
        assert b"it belongs to another user" in said and said.rstrip().endswith(b"[]")
        assert f"process {child.pid} of another user (65534) asks" in agent.text()
        assert await agent.stop() == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("count", ["two", "-1", "+1", "1e0", "99999", "\u0662", " 1"])
def test_a_number_of_sockets_that_is_none_is_one_line(count: str) -> None:
    given = {"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a"}
    with pytest.raises(takeover.UsageError, match=r"^LISTEN_FDS '.*': expected a whole number$"):
        activated(given)
    assert given == {}
    # What is meant for another process is not for this one.
    given = {"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid() + 1)}
    assert activated(given) == ([], []) and given == {}


@pytest.mark.parametrize("count", ["2", "3"])
def test_descriptors_that_are_no_listening_sockets_are_one_line(small: Small, count: str) -> None:
    async def scenario() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            agent = next_of(small, f"wrong{count}", 1, 1)
            del agent.arguments[2:6]
            agent.sockets = [(listener, "http"), (listener, "http"), (other, "http")]
            if count == "2":
                del agent.sockets[1]
            agent.listen_fds = count
            assert await agent.launch().ended(30.0) == 2
        line = agent.text().splitlines()[-1]
        at = 2 + int(count)
        expected = f"descriptor {at}: expected a listening TCP socket"
        assert line == f"dragoman: LISTEN_FDS: {expected}"

    asyncio.run(scenario())
