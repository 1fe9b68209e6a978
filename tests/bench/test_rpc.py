"""The RPC benchmark runs small: every contestant in every style, its report, its refusals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.bench.rpc import contestants, peer_grpc, run
from dragoman.bench.rpc.calling import AsyncCaller
from dragoman.bench.rpc.contestant import BenchError, Contestant, Cpu, Sample, Work
from dragoman.bench.rpc.contestants import NAMES, contestant
from dragoman.bench.rpc.latency import summary
from dragoman.bench.rpc.pair import Pair
from dragoman.bench.rpc.plan import IDLE, SHAPES, STYLES, Settings, takes_part
from dragoman.bench.rpc.results import compare, result
from dragoman.bench.rpc.run import RpcBench
from dragoman.cli import bench_rpc
from dragoman.errors import UsageError
from dragoman.harness.cpu import alive, of_tree, process_tree

DOCUMENT = Path(__file__).parents[2] / "docs" / "bench-rpc.md"
SECONDS = 0.02


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dragoman", "bench", "rpc", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module", params=NAMES)
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Contestant, Pair]]:
    """A contestant and its two processes."""
    tried = contestant(request.param)
    if reason := tried.missing():
        pytest.skip(reason)
    with Pair(request.param) as pair:
        yield tried, pair


def test_each_contestant_calls_in_each_of_its_styles(running: tuple[Contestant, Pair]) -> None:
    tried, pair = running
    for style in tried.styles - {IDLE}:
        shape = SHAPES[style][0]
        in_flight = min(shape.in_flight, 50)
        work = Work(style, 128, 1, in_flight, shape.batch, SECONDS)
        sample, server = pair.measure(work)
        assert sample.calls >= in_flight * shape.batch
        assert sample.calls % (in_flight * shape.batch) == 0
        assert 0 < sample.seconds < 5
        for cpu in (sample.cpu, server):
            # Every thread's time is in it, so that it may be more than the seconds.
            assert 0 <= cpu.user_s + cpu.system_s <= (os.cpu_count() or 1) * sample.seconds + 0.1
        assert sample.cpu.user_s + sample.cpu.system_s > 0
        if style == "lone":
            assert sample.latency_us is not None
            assert 0 < sample.latency_us["p50"] <= sample.latency_us["p99"]
            assert sample.latency_us["p50"] <= sample.seconds * 1e6
        else:
            assert sample.latency_us is None


def test_bodies_of_any_size_come_back(running: tuple[Contestant, Pair]) -> None:
    """``prepare`` compares each reply; over two connections where there may be two."""
    tried, pair = running
    style = "await" if "await" in tried.styles else "lone"
    for size in (0, 1, 4096, 2**20):
        connections = 1 if tried.single else 2
        in_flight = 1 if style == "lone" else 4
        work = Work(style, size, connections, in_flight, 1, SECONDS)
        assert pair.measure(work)[0].calls >= in_flight


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_one_call_at_a_time_is_measured_between_two_cores() -> None:
    with Pair("floor-uvloop") as pair:
        pids = (pair.server.pid, pair.client.pid)
        for style, alike in (("lone", False), ("bulk", True)):
            pair.measure(Work(style, seconds=SECONDS))
            server, client = (os.sched_getaffinity(pid) for pid in pids)
            assert (server == client) == alike
            assert len(server) == (len(os.sched_getaffinity(0)) if alike else 1)


class Liar:
    """A connection whose replies are right until the last, and whose server notes too little."""

    async def call(self, _method: str, body: bytes) -> bytes:
        return body[::-1]

    def call_soon(self, method: str, body: bytes, callback: Any) -> None:
        asyncio.get_running_loop().call_soon(callback, body[::-1], None)

    async def call_many(self, _method: str, bodies: list[bytes]) -> list[bytes]:
        return [*bodies[:-1], b""]

    async def map(self, _method: str, bodies: list[bytes], *, in_flight: int) -> Any:
        for body in bodies[:-1]:
            yield body

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("style", ["await", "soon", "many", "map", "lone", "bulk"])
def test_a_wrong_reply_is_no_figure(style: str) -> None:
    async def connect() -> Liar:
        return Liar()

    caller = AsyncCaller(connect, asyncio.new_event_loop)
    with pytest.raises(BenchError, match="a reply differs"):
        caller.prepare(Work(style, in_flight=2, batch=2, seconds=SECONDS))
    caller.finish()
    caller.close()


def test_a_note_that_was_not_handled_is_no_figure() -> None:
    class Forgetful:
        notes = 0

        async def call(self, _method: str, body: bytes) -> bytes:
            return body

        def notify(self, _method: str, _body: bytes) -> None:
            self.notes += 1

        async def noted(self) -> int:
            return self.notes // 2

        async def close(self) -> None:
            pass

    async def connect() -> Forgetful:
        return Forgetful()

    caller = AsyncCaller(connect, asyncio.new_event_loop)
    with pytest.raises(BenchError, match="notify: 2 sent, 1 handled"):
        caller.prepare(Work("notify", in_flight=2, seconds=SECONDS))
    caller.finish()
    caller.close()


def test_a_run_leaves_no_process_behind() -> None:
    with Pair("prototype") as pair:
        pids = [pair.server.pid, pair.client.pid]
        assert all(map(alive, pids))
    assert not any(map(alive, pids))


def test_a_server_that_dies_fails_its_measurement_alone() -> None:
    with Pair("prototype") as pair:
        os.kill(pair.server.pid, signal.SIGKILL)
        with pytest.raises(BenchError):
            pair.measure(Work("await", seconds=SECONDS, in_flight=10))


def test_a_contestant_that_cannot_start_says_why() -> None:
    with pytest.raises(BenchError, match=r"the server has ended: .*no contestant 'nobody'"):
        Pair("nobody").__enter__()


def test_what_fails_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Pair.measure

    def measure(pair: Pair, work: Work) -> tuple[Sample, Cpu]:
        if pair._name == "streams":
            raise BenchError("a reply differs")
        return right(pair, work)

    monkeypatch.setattr(Pair, "measure", measure)
    settings = Settings(
        styles=("lone",), seconds=SECONDS, rounds=2, contestants=("streams", "floor-sockets")
    )
    report = RpcBench(settings).run()
    assert report["failed"] == {"streams, lone, 128 B": "a reply differs"}
    assert [each["contestant"] for each in report["results"]] == ["floor-sockets"]
    assert len(report["results"][0]["rounds"]) == 2


def test_what_is_not_installed_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_grpc, "find_spec", lambda _: None)
    report = RpcBench(Settings(styles=("lone",), contestants=("grpc",))).run()
    assert report["skipped"] == {"grpc": "grpcio is not installed"}
    assert report["results"] == []


def test_too_low_a_limit_of_descriptors_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "raise_descriptor_limit", lambda: run.OTHER_DESCRIPTORS + 20)
    settings = Settings(
        styles=(IDLE,), seconds=SECONDS, idle_connections=50, contestants=("dragoman",)
    )
    report = RpcBench(settings).run()
    assert report["skipped"]["idle connections"].startswith("30 of 50: ")
    assert report["idle"][0]["connections"] == 20
    assert set(report["idle"][0]["bytes_each"]) == {"server", "client"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process_behind(number: signal.Signals) -> None:
    arguments = ["--contestants", "prototype", "--styles", "await", "--seconds", "30"]
    conductor = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "bench", "rpc", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children: list[int] = []
    end_s = time.monotonic() + 20
    while len(children) < 2 and time.monotonic() < end_s:
        time.sleep(0.02)
        children = [pid for pid in process_tree(conductor.pid) if pid != conductor.pid]
    # In the midst of its calls: beyond what starting takes.
    while len(children) == 2 and time.monotonic() < end_s:
        if max(of_tree(pid).total_s for pid in children) > 0.6:
            break
        time.sleep(0.02)
    assert len(children) == 2
    conductor.send_signal(number)
    assert conductor.wait(20) == (130 if number == signal.SIGINT else -number)
    while any(map(alive, children)) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not any(map(alive, children))


def test_the_command_prints_tables_and_writes_the_documented_fields(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    names = "prototype,floor-sockets"
    options = ["--contestants", names, "--seconds", str(SECONDS), "--rounds", "2"]
    done = command(*options, "--idle-connections", "50", "--json", str(path))
    assert done.returncode == 0, done.stderr
    for words in ("await: 1,000 tasks", "lone: one call", "bulk: ", "idle: ", "prototype", "p99"):
        assert words in done.stdout
    assert "…" not in done.stdout, "something is cut off"
    report = json.loads(path.read_text())
    document = DOCUMENT.read_text().partition("## The result")[2]
    top, _, rest = document.partition("| field |")
    table, _, idle = rest.partition("An entry of")
    # "of `lone`" and the like are values; names in the first column are fields.
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    fields = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    for each in report["results"]:
        assert set(each) == fields
    assert set(report) == set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", top))) - {"FILE"}
    assert set(report["idle"][0]) == set(re.findall(r"`(\w+)`", idle)) - {
        "idle",
        "server",
        "client",
    }
    assert [each["contestant"] for each in report["idle"]] == ["prototype"]
    lone = next(each for each in report["results"] if each["style"] == "lone")
    assert set(lone["compared"]) == {"floor-sockets"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"styles": "waltz"}, "'waltz' is none of await, soon,"),
        ({"styles": ""}, "expected at least one of"),
        ({"size": "1048577"}, "--size must be 0 to 1,048,576, not 1,048,577"),
        ({"size": "-1"}, "--size must be 0 to"),
        ({"size": "big"}, "expected numbers with commas between"),
        ({"connections": "0"}, "--connections must be 1 to"),
        ({"seconds": float("nan")}, "--seconds must be"),
        ({"rounds": 0}, "--rounds must be 1 to"),
        ({"idle_connections": 0}, "--idle-connections must be 1 to"),
        ({"contestants": "nobody"}, "'nobody' is none of"),
        ({"json_file": Path("/nowhere/at/all/report.json")}, "no such directory"),
        ({"json_file": Path("/")}, "cannot be written"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as refused:
        bench_rpc.rpc(**options)
    assert "\n" not in str(refused.value)


def test_the_command_says_what_is_wrong_and_ends_with_2() -> None:
    done = command("--size", "big")
    assert done.returncode == 2
    assert done.stderr == (
        "dragoman: --size 'big': expected numbers with commas between, as in 0,128,4096\n"
    )
    assert done.stdout == ""


def test_bodies_too_large_for_a_batch_are_still_shown_with_their_style(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(styles=("many",), sizes=(2**20,))
    done = [result("dragoman", work, rounds_of(7)) for work in settings.works()]
    assert [each["variant"] for each in done] == ["100x10", "500x4"]
    machine = {"cores": 2, "cpu": "some"}
    bench_rpc.show({"machine": machine, "results": done, "idle": [], "skipped": {}}, settings)
    assert capsys.readouterr().out.count("1,048,576") == 2


def test_what_is_in_flight_is_bounded_by_bytes() -> None:
    for size in (0, 128, 4096, 65536, 2**20):
        for work in Settings(sizes=(size,), connections=(1, 8)).works():
            assert work.in_flight * work.batch * work.size <= 64 * 2**20 or work.in_flight == 8
            assert work.in_flight >= work.connections


def test_every_style_is_planned_and_documented() -> None:
    planned = {work.style for work in Settings().works()} | {IDLE}
    assert planned == set(STYLES)
    document = DOCUMENT.read_text()
    for name in (*STYLES, *contestants.NAMES):
        assert f"| `{name}` |" in document


def test_contestants_with_a_connection_of_their_own_take_no_part_in_many() -> None:
    sockets = contestant("floor-sockets")
    assert takes_part(sockets, Work("lone"))
    assert not takes_part(sockets, Work("lone", connections=2))
    assert not takes_part(sockets, Work("await"))


def test_percentiles_are_exact() -> None:
    figures = summary([nanoseconds * 1000 for nanoseconds in range(100, 0, -1)])
    assert (figures["min"], figures["max"], figures["mean"]) == (1, 100, 50.5)
    assert (figures["p50"], figures["p90"], figures["p99"]) == (51, 91, 100)
    assert set(summary([7])) == set(figures)


def rounds_of(*rates: float, p50: float | None = None) -> list[tuple[Sample, Cpu]]:
    latency = None if p50 is None else {"p50": p50}
    return [(Sample(int(rate), 1.0, Cpu(0.5, 0.25), latency), Cpu(0.25, 0.5)) for rate in rates]


def test_results_are_medians_and_ratios_of_medians() -> None:
    work = Work("await", 1024, 1, 1000)
    results = [
        result("streams", work, rounds_of(100, 300, 200)),
        result("prototype", work, rounds_of(400, 800, 100)),
    ]
    compare(results)
    assert results[0]["calls_per_s"] == {"median": 200, "best": 300}
    assert results[0]["compared"] == {"prototype": 0.5}
    assert results[1]["compared"] == {"prototype": 1.0}
    assert results[0]["cpu_us_per_call"]["client"] == {"user": 2500, "system": 1250}
    assert results[0]["cpu_us_per_call"]["server"] == {"user": 1250, "system": 2500}


def test_one_call_at_a_time_is_compared_by_latency() -> None:
    results: list[dict[str, Any]] = [
        result("streams", Work("lone"), rounds_of(10, p50=90.0)),
        result("floor-sockets", Work("lone"), rounds_of(20, p50=60.0)),
        result("floor-sockets", Work("lone", size=0), rounds_of(20, p50=1.0)),
    ]
    compare(results)
    assert results[0]["compared"] == {"floor-sockets": 1.5}


def test_settings_are_checked_wherever_they_come_from() -> None:
    with pytest.raises(UsageError, match="rounds"):
        Settings(rounds=0)
