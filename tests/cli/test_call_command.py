"""``dragoman call`` and ``dragoman services``: what they print, and how they fail."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragoman import dubbo
from dragoman.cli.main import run
from dragoman.dubbo.types import java

HELLO = "com.example.Hello"


@dubbo.bean("com.example.Color")
class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dubbo.bean("com.example.User")
@dataclass
class User:
    name: str
    age: int = 0


@dubbo.bean("com.example.Wall")
@dataclass
class Wall:
    color: Color
    since: datetime.date | None = None


@dubbo.service(HELLO, version="1.0", group="g")
class Hello:
    async def hash(self, text: str) -> int:
        return len(text)

    async def older(self, user: User) -> User:
        request = dubbo.current_request()
        request.reply_attachments["trace"] = request.attachments.get("trace", "none")
        return User(user.name, user.age + 1)

    async def total(self, values: list[java.long]) -> java.long:
        return sum(values)

    async def fail(self, text: str) -> None:
        raise ValueError(text)

    async def nap(self) -> None:
        await asyncio.sleep(5)

    async def nothing(self) -> None:
        return None

    async def paint(self, wall: Wall) -> Wall:
        # What came was a map, as Java's provider would have it made an object of.
        if dubbo.current_request().attachments.get("generic") != "true":
            raise ValueError("not by generic invocation")
        return Wall(Color.BLUE, wall.since)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server in a thread of its own."""
    started = threading.Event()
    found: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with await dubbo.serve(Hello(), 0) as server:
            found.append((str(server.address), asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    where, loop, stop = found[0]
    yield where
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


Outcome = tuple[int, str, str]


class Command:
    """Runs the command line in this process."""

    def __init__(
        self,
        address: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._address = address
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["dragoman", *arguments])
        with pytest.raises(SystemExit) as caught:
            run()
        out, err = self._capsys.readouterr()
        return caught.value.code or 0, out, err

    def call(self, method: str, *arguments: str, service: tuple[str, ...] = ()) -> Outcome:
        options = service or ("--version", "1.0", "--group", "g")
        where = ("--registry", f"dubbo://{self._address}")
        return self("call", HELLO, method, *where, *options, *arguments)


@pytest.fixture
def dragoman(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(address, monkeypatch, capsys)


def test_a_call_prints_its_result_as_json(dragoman: Command) -> None:
    assert dragoman.call("hash", "abc") == (0, "3\n", "")
    assert dragoman.call("hash", '"7"') == (0, "1\n", "")
    assert dragoman.call("nothing") == (0, "null\n", "")
    assert dragoman.call("total", "[1, 2, 39]") == (0, "42\n", "")


def test_types_say_what_the_arguments_are(dragoman: Command) -> None:
    assert dragoman.call("hash", "77", "--types", "java.lang.String") == (0, "2\n", "")
    longs = ("[1,2]", "--types", "java.util.List<java.lang.Long>")
    assert dragoman.call("total", *longs) == (0, "3\n", "")
    user = ('{"name": "Ann", "age": 3}', "--types", "com.example.User")
    assert dragoman.call("older", *user) == (0, '{"name":"Ann","age":4}\n', "")
    shown = '{"class":"com.example.User","name":"Ann","age":4}\n'
    assert dragoman.call("older", *user, "--class") == (0, shown, "")


def test_a_generic_call_finds_the_method_by_its_name(dragoman: Command) -> None:
    code, out, _ = dragoman.call("older", '{"name": "Ann", "age": 3}', "--generic")
    assert (code, json.loads(out)["age"]) == (0, 4)


def test_a_bean_with_an_enum_is_made_by_its_provider(dragoman: Command) -> None:
    wall = '{"color": "RED", "since": "2020-01-02"}'
    shown = {"color": "BLUE", "since": "2020-01-02"}
    named = '{"class": "com.example.Wall", "color": "RED", "since": "2020-01-02"}'
    for arguments in ((wall, "--types", "com.example.Wall"), (named,)):
        code, out, err = dragoman.call("paint", *arguments)
        assert (code, json.loads(out or "null"), err) == (0, shown, "")
    code, out, _ = dragoman.call("paint", named, "--class")
    assert json.loads(out) == {"class": "com.example.Wall", **shown}
    code, _, err = dragoman.call("paint", named, "--no-generic")
    assert code == 1 and "not by generic invocation" in err


def test_attachments_go_and_come(dragoman: Command, tmp_path: Path) -> None:
    user = ('{"class": "com.example.User", "name": "Ann", "age": 3}', "--attachment", "trace=7")
    code, out, _ = dragoman.call("older", *user, "--json", "-")
    shown = json.loads(out)
    assert (code, shown["result"]["age"], shown["attachments"]) == (0, 4, {"trace": "7"})
    file = tmp_path / "reply.json"
    assert dragoman.call("older", *user, "--json", str(file)) == (0, "", "")
    assert json.loads(file.read_text())["result"]["name"] == "Ann"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("fail", "oops"), 1, "java.lang.RuntimeException: oops"),
        (("hash", "7"), 1, 'Not found method "hash(I)"'),
        (("nap", "--timeout", "50"), 1, "com.example.Hello.nap: "),
        (("hash", "x", "--types", "int,int"), 2, "2 types for 1 arguments"),
        (("hash", "x", "--types", "int"), 2, "argument 1: 'x' is no int"),
        (("hash", "x", "--attachment", "k"), 2, "expected NAME=VALUE"),
        (("hash", "x", "--timeout", "0"), 2, "--timeout"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    dragoman: Command, arguments: tuple[str, ...], code: int, said: str
) -> None:
    outcome, out, err = dragoman.call(*arguments)
    assert (outcome, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("dragoman: ")
    assert said in err


def test_a_service_that_is_not_there_is_said(dragoman: Command) -> None:
    code, _, err = dragoman.call("hash", "x", service=("--version", "9"))
    assert code == 1
    assert "Not found exported service: com.example.Hello:9" in err
    code, _, err = dragoman("call", HELLO, "hash", "x", "--registry", "dubbo://127.0.0.1:1")
    assert (code, err.count("\n")) == (1, 1)
    assert "no provider of this service can be reached" in err
    code, _, err = dragoman("call", HELLO, "hash", "x", "--registry", "ftp://x")
    assert code == 2


LISTED = "static://127.0.0.1:30000?interface=a.B&version=1.0&weight=3,127.0.0.1:2?interface=c.D"


def test_services_are_listed_with_who_serves_them(dragoman: Command) -> None:
    code, out, _ = dragoman("services", "--registry", LISTED)
    head, first, second = out.splitlines()
    assert code == 0
    assert head.split()[:3] == ["interface", "endpoint", "version"]
    assert first.split() == ["a.B", "127.0.0.1:30000", "1.0", "mesh", "fastjson", "3", "200"]
    assert second.split()[0] == "c.D"
    code, out, _ = dragoman("services", "c.", "--registry", LISTED, "--json", "-")
    (only,) = json.loads(out)
    assert (only["interface"], only["host"], only["port"]) == ("c.D", "127.0.0.1", 2)


def test_a_registry_that_is_away_is_one_line(dragoman: Command) -> None:
    code, out, err = dragoman("services", "--registry", "etcd://127.0.0.1:1", "--timeout", "500")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "etcd" in err


def test_what_asking_for_the_types_took_is_taken_from_the_calls_time(
    dragoman: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    real = dubbo.Client.service

    async def slow(self: dubbo.Client, service: object, **options: float) -> tuple[object, ...]:
        assert options["timeout_ms"] <= 2000
        await asyncio.sleep(0.4)
        return ()

    def noted(self: dubbo.Client, *args: object, **options: float) -> object:
        given.append(options.get("timeout_ms", 0))
        return real(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(dubbo.Client, "methods", slow)
    monkeypatch.setattr(dubbo.Client, "service", noted)
    assert dragoman.call("hash", "abc", "--timeout", "2000") == (0, "3\n", "")
    assert 0 < given[-1] <= 1601
