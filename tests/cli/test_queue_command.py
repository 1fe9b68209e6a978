"""``dragoman queue``: what each command prints, leaves behind and answers to bad input."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.broker.exchange import export_queues
from dragoman.cli.main import run
from dragoman.queue import QueueStore
from tests.broker.worlds import SMALL
from tests.load_factor import load_factor

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "dragoman", "queue"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
WAIT_S = 20


def dragoman(
    place: Path, *arguments: str | bytes | Path, stdin: bytes = b"", code: int = 0
) -> tuple[bytes, str]:
    """Run a command in ``place``; its output, and what it said beside."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=place,
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert done.returncode == code, (done.stdout, said)
    if code:
        assert said.splitlines()[-1].startswith("dragoman: "), said
    return done.stdout, said


@contextlib.contextmanager
def serving(place: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``dragoman queue serve`` in ``place``; where it serves, and its process."""
    with subprocess.Popen(
        [*COMMAND, "serve", "store", "--listen", "127.0.0.1:0", *arguments],
        cwd=place,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("serving store on "), process.stderr.read()
            yield f"dragoman://{line.split()[-1]}", process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=WAIT_S)
        assert process.returncode in (0, -signal.SIGKILL)


def test_what_is_put_is_what_is_got(tmp_path: Path) -> None:
    _, said = dragoman(tmp_path, "put", "store", "orders", "hello", "w\u00f6rld", b"\xff\x01")
    assert said == "orders: 3 messages put, offsets 0 to 2\n"
    _, said = dragoman(tmp_path, "put", "store", "orders", stdin=b"one\n\nthree\r\nrest")
    assert said == "orders: 4 messages put, offsets 3 to 6\n"
    out, said = dragoman(tmp_path, "get", "store", "orders", "-n", "5")
    assert out.decode() == "hello\nw\u00f6rld\n\\xff\\x01\none\n\n"
    assert said == "2 more messages, from offset 5\n"
    out, _ = dragoman(tmp_path, "get", "store", "orders", "--all", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[1] == {"queue": "orders", "offset": 1, "message": "w\u00f6rld"}
    assert lines[2] == {"queue": "orders", "offset": 2, "message_base64": "/wE="}
    assert [line["offset"] for line in lines] == list(range(7))
    out, _ = dragoman(tmp_path, "get", "store", "orders", "--offset", "5", "--raw")
    assert out == b"three\rrest"
    out, _ = dragoman(tmp_path, "tail", "store", "orders", "-n", "1", "--no-follow")
    assert out == b"rest\n"


def test_frames_carry_any_bytes_there_and_back(tmp_path: Path) -> None:
    messages = [b"", b"a\nb", bytes(range(256)), b"x" * 100_000]
    frames = b"".join(struct.pack("<I", len(m)) + m for m in messages)
    dragoman(tmp_path, "put", "store", "q", "--frames", stdin=frames)
    out, _ = dragoman(tmp_path, "get", "store", "q", "--frames")
    assert out == frames
    _, said = dragoman(tmp_path, "put", "store", "q", "--frames", stdin=frames[:-1], code=2)
    assert "ends within a frame" in said
    _, said = dragoman(tmp_path, "put", "store", "q", "--frames", stdin=b"\xff" * 9, code=2)
    assert "4294967295 bytes" in said


def test_a_group_goes_on_where_it_was(tmp_path: Path) -> None:
    dragoman(tmp_path, "put", "store", "q", *map(str, range(7)))
    out, _ = dragoman(tmp_path, "get", "store", "q", "--group", "g", "-n", "3")
    assert out == b"0\n1\n2\n"
    out, _ = dragoman(tmp_path, "get", "store", "q", "--group", "g", "-n", "3")
    assert out == b"3\n4\n5\n"
    out, _ = dragoman(tmp_path, "stat", "store", "--json")
    (told,) = json.loads(out)["queues"]
    assert told["groups"] == [{"name": "g", "position": 6, "behind": 1}]


def test_stat_shows_queues_as_a_table(tmp_path: Path) -> None:
    with QueueStore(tmp_path / "store", **SMALL) as store:
        store.put_many([(f"q{i:02}", b"x") for i in range(25)])
        store.put_many(b"q00", [b"y"] * 2999)
        store.trim("q00", 1000)
        store.commit("q00", "g", 2500)
        store.put(b"\x1b[31m[red]", b"")
    out, _ = dragoman(tmp_path, "stat", "store")
    text = out.decode()
    assert text.startswith("store: 26 queues, ")
    (row,) = [line.split() for line in text.splitlines() if "q00" in line]
    assert row == ["q00", "2,000", "1,000", "3,000", "g:", "2,500", "(500)"]
    assert "and 6 more queues" in text and "q20" not in text
    out, _ = dragoman(tmp_path, "stat", "store", "--queues", "99")
    assert "\\x1b[31m[red]" in out.decode() and b"\x1b" not in out
    out, _ = dragoman(tmp_path, "stat", "store", "q20")
    assert "q20" in out.decode() and "q00" not in out.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("get", "nowhere", "q"), "there is no queue store here"),
        (("stat", "nowhere"), "there is no queue store here"),
        (("verify", "nowhere"), "there is no queue store here"),
        (("export", "nowhere", "x"), "there is no queue store here"),
        (("get", "store", "nobody"), "there is no queue 'nobody'"),
        (("stat", "store", "nobody"), "there is no queue 'nobody'"),
        (("get", "store", "q", "--json", "--raw"), "choose one of --json and --raw"),
        (("get", "store", "q", "--offset", "-1"), "must not be negative"),
        (("get", "store", "q", "--group", "g", "--offset", "1"), "takes no --offset"),
        (("tail", "store", "q", "--group", "g"), "--group commits"),
        (("put", "store", "", "x"), "1 to 65536 bytes"),
        (("put", "store", "q", "x", "--frames"), "messages were given"),
        (("put", "store", "q", "x", "--durability", "often"), "durability is"),
        (("put", "dragoman://127.0.0.1:1", "q", "x", "--durability", "none"), "the server's"),
        (("get", "http://x/y", "q"), "expected a path, dragoman://"),
        (("get", "dragoman://nohost", "q"), "expected host:port"),
        (("get", "etcd://u:secret@h:1/p?store=", "q"), "store=name"),
        (("import", "store", "no.export"), "No such file"),
        (("import", "store", "garbage"), "no export of queues"),
        (("export", "store", "no/such/directory"), "No such file"),
        (("export", "store", "x", "-q", "nobody"), "there is no queue b'nobody'"),
        (("serve", "store", "--name", "x"), "give --registry"),
        (("serve", "store", "--listen", "x"), "expected host:port"),
        (("serve", "garbage", "--listen", "127.0.0.1:0"), "garbage"),
        (("put",), "argument WHERE is missing"),
        (("get", "store"), "argument QUEUE is missing"),
        (("nonsense",), "there is no command 'nonsense', expected one of put, get"),
        (("vrify", "store"), "did you mean verify?"),
        (("get", "store", "q", "--ofset", "1"), "there is no option --ofset"),
        (("get", "store", "q", "--offset", "x"), "option --offset: expected a whole number"),
        (("get", "store", "q", "--count", "-1"), "--count: expected a whole number of at least 0"),
        (("get", "store", "q", "--offset"), "option --offset: expected a value"),
        (("verify", "store", "r"), "dragoman queue verify takes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    with QueueStore(tmp_path / "store", **SMALL) as store:
        store.put("q", b"m")
    (tmp_path / "garbage").write_bytes(b"garbage")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dragoman", "queue", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == (1 if "garbage" in arguments else 2)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and said.startswith("dragoman: "), said
    assert says in said
    assert "secret" not in said


def test_a_store_that_nobody_serves_is_said_in_one_line(tmp_path: Path) -> None:
    _, said = dragoman(tmp_path, "get", "dragoman://127.0.0.1:1", "q", code=1)
    assert said == "dragoman: 127.0.0.1:1: Connection refused\n"
    with QueueStore(tmp_path / "store", **SMALL):
        _, said = dragoman(tmp_path, "put", "store", "q", "x", code=1)
        assert "has the store open for writing" in said
        dragoman(tmp_path, "stat", "store")


def test_a_reader_that_goes_away_ends_a_command_quietly(tmp_path: Path) -> None:
    with QueueStore(tmp_path / "store", **SMALL) as store:
        store.put_many("q", [b"%d" % i * 50 for i in range(50_000)])
    command = f"{' '.join(COMMAND)} get store q --all | head -n 1"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"0" * 50 + b"\n", b"")


def test_an_export_brings_everything_to_another_store(tmp_path: Path) -> None:
    with QueueStore(tmp_path / "store", **SMALL) as store:
        store.put_many("whole", [b"%d" % i for i in range(9000)])
        store.put_many("cut", [b"%d" % i for i in range(100)])
        store.trim("cut", 60)
        store.commit("cut", b"\xff", 70)
        store.put("gone", b"x")
        store.trim("gone", 1)
        store.put(b"\0\xff", bytes(3 << 20))
    _, said = dragoman(tmp_path, "export", "store", "all.export")
    assert said.startswith("exported 4 queues, 9,041 messages, ")
    _, said = dragoman(tmp_path, "import", "two", "all.export")
    assert said.startswith("imported 4 queues, 9,041 messages, ")
    out, _ = dragoman(tmp_path, "export", "two", "-q", "cut")
    dragoman(tmp_path, "import", "three", stdin=out)
    with QueueStore(tmp_path / "two") as two, QueueStore(tmp_path / "three") as three:
        assert list(two.queues()) == [b"whole", b"cut", b"gone", b"\0\xff"]
        assert two.get("whole", 0, 99999) == [b"%d" % i for i in range(9000)]
        assert (two.first_offset("gone"), two.length("gone")) == (1, 1)
        assert two.get(b"\0\xff", 0) == [bytes(3 << 20)]
        for each in (two, three):
            assert (each.first_offset("cut"), each.length("cut")) == (60, 100)
            assert each.get("cut", 60, 99) == [b"%d" % i for i in range(60, 100)]
            assert each.groups("cut") == {b"\xff": 70}
    _, said = dragoman(tmp_path, "import", "two", "all.export", code=2)
    assert "b'whole' already" in said


def test_an_export_that_is_cut_or_changed_anywhere_is_found(tmp_path: Path) -> None:
    import io

    from dragoman.broker.exchange import import_queues
    from dragoman.errors import DragomanError

    with QueueStore(tmp_path / "store", **SMALL) as store:
        store.put_many("q", [b"m%d" % i for i in range(5)])
        store.commit("q", "g", 2)
        store.put("r", b"x")
        stream = io.BytesIO()
        export_queues(store, stream)
    whole = stream.getvalue()

    def taken(data: bytes, number: list[int] = [0]) -> bool:  # noqa: B006
        number[0] += 1
        with QueueStore(tmp_path / f"{number[0]}", durability="none", **SMALL) as store:
            try:
                import_queues(store, io.BytesIO(data))
            except DragomanError as error:
                assert "export" in str(error)
                return False
            return True

    assert taken(whole)
    assert not any(taken(whole[:cut]) for cut in range(0, len(whole), 11))
    assert not taken(whole + b"\0")
    for at in range(0, len(whole), 3):
        assert not taken(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]), at


def test_damage_is_listed_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with QueueStore(tmp_path / "store", durability="none", **SMALL) as store:
        for _ in range(3):
            store.put_many([(f"q{i}", b"%d" % i * 200) for i in range(300)])
        store.put_many("big", [bytes(60_000)] * 30)
    _, said = dragoman(tmp_path, "verify", "store")
    assert said == "store: every block is as it was written\n"
    segment = min((tmp_path / "store").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 4
    segment.write_bytes(data)
    with subprocess.Popen(
        [*COMMAND, "verify", "store"], cwd=tmp_path, env=ENVIRONMENT, stdout=-1, stderr=-1
    ) as process:
        out, said_bytes = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert segment.name.encode() in out
    assert said_bytes.decode().splitlines()[-1].startswith("dragoman: store: 1 damaged place")
    # What is before the damage is printed, then what is wrong is said.
    for name in ("big", "q7"):
        arguments = ("get", "store", name, "--all", "--raw")
        with subprocess.Popen(
            [*COMMAND, *arguments], cwd=tmp_path, env=ENVIRONMENT, stdout=-1, stderr=-1
        ) as process:
            out, said_bytes = process.communicate(timeout=WAIT_S)
        if process.returncode:
            assert segment.name in said_bytes.decode() and len(said_bytes.splitlines()) == 1
            assert name != "big" or (out and len(out) % 60_000 == 0)


def test_a_served_store_takes_every_command(tmp_path: Path) -> None:
    with serving(tmp_path, "--durability", "always") as (where, process):
        dragoman(tmp_path, "put", where, "q", stdin=b"".join(b"%d\n" % i for i in range(5000)))
        out, _ = dragoman(tmp_path, "get", where, "q", "--offset", "4998")
        assert out == b"4998\n4999\n"
        out, _ = dragoman(tmp_path, "get", where, "q", "--group", "g", "-n", "2")
        assert out == b"0\n1\n"
        out, _ = dragoman(tmp_path, "stat", where)
        assert f"{where}: 1 queue, " in out.decode() and "5,000" in out.decode()
        dragoman(tmp_path, "export", where, "e")
        dragoman(tmp_path, "import", "copy", "e")
        _, said = dragoman(tmp_path, "put", "store", "q", "x", code=1)
        assert "open for writing" in said
        with subprocess.Popen(
            [*COMMAND, "tail", where, "q", "-n", "2"], cwd=tmp_path, env=ENVIRONMENT, stdout=-1
        ) as tail:
            assert tail.stdout is not None
            assert [tail.stdout.readline(), tail.stdout.readline()] == [b"4998\n", b"4999\n"]
            dragoman(tmp_path, "put", where, "q", "more")
            assert tail.stdout.readline() == b"more\n"
            # The server stops in order although somebody waits.
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S)
            assert time.monotonic() - started < 5 * load_factor() and process.returncode == 0
            tail.send_signal(signal.SIGINT)
            tail.wait(WAIT_S)
            assert tail.returncode == 130
    with QueueStore(tmp_path / "store") as store:
        assert store.get("q", 5000) == [b"more"]
    with QueueStore(tmp_path / "copy") as copy:
        assert copy.length("q") == 5000 and copy.groups("q") == {b"g": 2}


def test_tail_of_a_directory_sees_what_its_writer_has_made_durable(tmp_path: Path) -> None:
    with QueueStore(tmp_path / "store", durability="always", **SMALL) as store:
        store.put("q", b"first")
        with subprocess.Popen(
            [*COMMAND, "tail", "store", "q"], cwd=tmp_path, env=ENVIRONMENT, stdout=-1, stderr=-1
        ) as tail:
            assert tail.stdout is not None and tail.stderr is not None
            for wanted in (b"first\n", b"second\n"):
                line = tail.stdout.readline()
                assert line == wanted, line or tail.stderr.read()
                store.put("q", b"second")
            tail.send_signal(signal.SIGINT)
            tail.wait(WAIT_S)
