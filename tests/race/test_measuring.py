"""What is measured: load drivers' output, CPU, memory, ports, metrics pages, shares, tables."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from rich.console import Console

from dragoman.cli import race_display
from dragoman.errors import UsageError
from dragoman.harness import cpu
from dragoman.harness.cpu import CpuTime
from dragoman.harness.network import Network, accepts
from dragoman.race import level, load_drivers, metrics
from dragoman.race.chain import hash_form, java_hash
from dragoman.race.config import build

WRK = load_drivers.WrkDriver()
BUILTIN = load_drivers.BuiltinDriver()
TARGET = load_drivers.Target("http://127.0.0.1:1/invoke")


def wrk_output(responses: int, **errors: int) -> str:
    names = ("mean", "min", "max", "p50", "p90", "p99", "p99_9")
    result = {
        "responses": responses,
        "duration_us": 2_000_000,
        "errors": {"connect": 0, "status": 0} | errors,
        "latency_us": dict.fromkeys(names, 1500),
    }
    return f"Running 2s test\nRESULT {json.dumps(result)}\n"


def test_replies_with_an_error_status_do_not_count() -> None:
    result = WRK.result(wrk_output(100, status=20, timeout=1))
    assert (result.requests, result.qps) == (80, 40.0)
    assert result.errors == {"status": 20, "timeout": 1}
    assert result.latency_ms["p99_9"] == 1.5


def test_without_an_answer_there_is_no_latency() -> None:
    result = WRK.result(wrk_output(0, connect=4))
    assert (result.qps, result.latency_ms["mean"]) == (0.0, None)


def test_the_built_in_load_is_read() -> None:
    found: dict[str, Any] = {"requests": 11, "good": 10, "duration_s": 2.0}
    found |= {"errors": {"wrong": 0}, "latency_ms": {"mean": 1.0}}
    found |= {"cpu_s": {"user": 0.5, "system": 1.0}}
    for text in (json.dumps(found), json.dumps(found, indent=2)):
        result = BUILTIN.result(text)
        assert (result.requests, result.qps, result.errors) == (10, 5.0, {})
        assert result.latency_ms["mean"] == 1.0
        assert result.latency_ms["p99"] is None
        assert result.cpu == CpuTime(0.5, 1.0)
    assert BUILTIN.result(json.dumps(found | {"requests": 0})).latency_ms["mean"] is None


@pytest.mark.parametrize("driver", [WRK, BUILTIN])
@pytest.mark.parametrize("output", ["", "RESULT {", "RESULT []", "{}\n", "[]"])
def test_output_that_is_no_result_is_an_error(driver: load_drivers.LoadDriver, output: str) -> None:
    with pytest.raises(load_drivers.LoadError):
        driver.result(output)


def test_command_lines_say_what_is_asked() -> None:
    words = WRK.command(TARGET, 1, 1.5, 2)
    assert {"--threads=1", "--connections=1", "--duration=2s", "--timeout=2s"} <= set(words)
    assert words[-2:] == ["--", "get"]
    words = BUILTIN.command(load_drivers.Target("http://h/", "a.B"), 7, 2, 5)
    assert words[words.index("--connections") + 1] == "7"
    assert "--form-hash" in words


def test_a_driver_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert load_drivers.choose(None, 2).name == "builtin"
    with pytest.raises(UsageError, match="wrk is not on PATH"):
        load_drivers.choose("wrk", 2)
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/wrk")
    assert load_drivers.choose(None, 2).name == "wrk"
    assert load_drivers.choose("builtin", 2).name == "builtin"
    with pytest.raises(UsageError, match="expected wrk or builtin"):
        load_drivers.choose("ab", 2)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on PATH")
def test_wrk_posts_forms_and_reports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        target = load_drivers.Target(f"http://127.0.0.1:{port}/", "a.B")
        process = subprocess.Popen(
            WRK.command(target, 1, 1, 1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            received = b""
            deadline_s = time.monotonic() + 10
            while b"\r\n\r\n" not in received and time.monotonic() < deadline_s:
                connection, _ = server.accept()  # wrk first tries the address without a request
                with connection:
                    connection.settimeout(5)
                    received += connection.recv(65536)
                    if received:
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7")
            output, _ = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait()
    assert received.startswith(b"POST / HTTP/1.1\r\n")
    assert b"interface=a.B&method=hash&parameterTypesString=Ljava%2Flang%2FString%3B" in received
    assert WRK.result(output).requests >= 1


def test_a_tree_has_its_children_and_their_time() -> None:
    source = "import os,time; os.fork(); t=time.process_time()\n"
    source += "while time.process_time()-t<0.1: pass\nprint(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        tree = []
        try:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.readline()
            tree = cpu.process_tree(process.pid)
            spent = cpu.of_tree(process.pid)
            resident = cpu.resident_bytes(process.pid)
        finally:
            for pid in tree or [process.pid]:
                os.kill(pid, 9)
    assert len(tree) == 2
    assert spent.total_s >= 0.18
    assert resident > 1 << 20


def test_a_process_that_is_gone_spent_nothing() -> None:
    assert cpu.process_tree(4_194_304) == []
    assert cpu.of_tree(4_194_304) == CpuTime()
    assert cpu.resident_bytes(4_194_304) == 0


def test_ports_are_held_and_can_still_be_listened_on() -> None:
    with Network() as network, Network() as other:
        port = network.reserve("a")
        assert not accepts(port)
        assert other.reserve("b", preferred=port) != port
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(OSError) as caught:  # it sets SO_REUSEADDR, as servers do
                socket.create_server((host, port))
            assert caught.value.errno == errno.EADDRINUSE
        network.give("a")
        assert network.lost([]) == {}
        with socket.create_server(("127.0.0.1", port)):
            assert accepts(port)
            assert network.lost([os.getpid()]) == {}
            assert network.lost([]) == {"a": port}
        assert network.ports == {"a": port}


def test_a_metrics_page_is_read() -> None:
    page = metrics.parse(
        "# TYPE dragoman_endpoint_requests counter\n"
        'dragoman_endpoint_requests_total{endpoint="h:1",worker="0"} 3\n'
        'dragoman_endpoint_requests_total{endpoint="h:1",worker="1"} 4\n'
        "dragoman_provider_rejections_total 2\n"
    )
    assert page.by_label(metrics.ENDPOINT_REQUESTS, "endpoint") == {"h:1": 7.0}
    assert page.total(metrics.PROVIDER_REJECTIONS) == 2.0
    assert page.total("absent") is None
    assert metrics.fetch(1) == metrics.Page()


@pytest.mark.parametrize(
    ("connections", "split"),
    [
        (512, (112, 200, 200)),
        (600, (200, 200, 200)),
        (700, (200, 200, 200)),
        (60, (10, 20, 30)),
        (420, (73.3, 146.7, 200)),
    ],
)
def test_the_ideal_split_follows_capacity_up_to_the_limit(
    connections: int, split: tuple[float, float, float]
) -> None:
    assert tuple(level.ideal_split(build({}), connections).values()) == split


def test_samples_are_averaged_by_size() -> None:
    samples = [{"large": 2.0, "small": 1.0}, {"large": 4.0}]
    assert level.averages(samples) == {"small": 0.5, "large": 3.0}
    assert level.averages([]) is None


def test_a_level_counts_by_request() -> None:
    result = load_drivers.LoadResult(1000, 2.0, {}, {"mean": 50.2})
    spent = {"load": CpuTime(0.01, 0.02), "consumer": CpuTime()}
    entry = level.entry(build({}), 64, result, spent)
    assert (entry["qps"], entry["ideal_qps"], entry["ratio"]) == (500.0, 1280.0, 0.3906)
    assert entry["cpu_us_per_request"] == {"load": 30.0, "consumer": None}
    assert entry["cpu_split_us_per_request"] == {"load": {"user": 10.0, "system": 20.0}}


def test_the_probe_is_what_the_consumer_posts() -> None:
    assert java_hash("hello") == 99162322
    assert java_hash("dragoman") == -840856129
    assert b"parameterTypesString=Ljava%2Flang%2FString%3B&parameter=x" in hash_form("a.B", "x")


def level_report(**changes: Any) -> dict[str, Any]:
    return {
        "connections": 64,
        "qps": 1270.0,
        "ratio": 0.9922,
        "errors": {"timeout": 3},
        "latency_ms": {"p99": 51.0},
        "concurrency_split": None,
        "ideal_concurrency_split": {"small": 1.0},
        "split": {"small": 10, "medium": 20},
        "rejections": None,
        "cpu_us_per_request": {"load": 3.0, "consumer": None},
        "cpu_split_us_per_request": {"load": {"user": 1.0, "system": 2.0}},
    } | changes


def shown(result: dict[str, Any]) -> str:
    console = Console(width=120, record=True, emoji=False, highlight=False, file=io.StringIO())
    race_display.print_outcome(result, console)
    return console.export_text()


def test_tables_show_levels_even_with_gaps() -> None:
    result = {"qps": 1270.0, "policy": "demand", "load": "wrk", "direct": False, "delay_ms": 50}
    text = shown(result | {"levels": [level_report()]})
    for words in ("99.22%", "3 timeout", "10 : 20", "3.0 (1.0+2.0)", "score: 1,270.0 QPS"):
        assert words in text


def test_policies_are_listed_best_first() -> None:
    policies = [
        {"policy": "random", "qps": -1, "levels": [], "error": "it failed\nfor a reason"},
        {"policy": "demand", "qps": 1270.0, "levels": [level_report(ratio=None)]},
    ]
    text = shown({"qps": -1, "policies": policies, "logs": "x.tar.gz"})
    assert text.index("demand") < text.index("random")
    assert "it failed" in text
    assert "score" not in text


def test_a_terminal_gets_a_live_line_and_each_level() -> None:
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    with race_display.Display(console) as display:
        display.plan(10)
        display.step("etcd")
        display.advance(5, "demand, 64 connections")
        display.level(level_report())
    assert "64 connections: 1,270 QPS (99.2% of ideal)" in console.export_text()
