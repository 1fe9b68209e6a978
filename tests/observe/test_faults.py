"""No value of a caller's, a provider's or a service's stands in the log, whatever is raised."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import dubbo, rpc
from dragoman.errors import DragomanError, JavaError, RemoteError
from dragoman.observe.faults import place_of
from dragoman.observe.logs import LineFormatter
from tests.dubbo.fake import Frame, way

SOURCE = Path(__file__).parents[2] / "src" / "dragoman"
MARK = "customer-4711"


class Odd:
    """What cannot be sent, and shows a value when it is printed."""

    def __repr__(self) -> str:
        return f"Odd({MARK})"


@dubbo.service("a.B")
class Throwing:
    def fail(self, text: str) -> str:
        raise KeyError(f"{MARK} {text}")

    def odd(self, text: str) -> Any:
        return [Odd()]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that would be written, by our programs and by a user's own handler."""
    root, stream = logging.getLogger(), io.StringIO()
    ours, users = logging.StreamHandler(stream), logging.StreamHandler(stream)
    ours.setFormatter(LineFormatter("x"))
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [ours, users]
    root.setLevel("DEBUG")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


async def raises(body: bytes) -> bytes:
    raise ValueError(f"{MARK} {body!r}")


async def of_rpc() -> None:
    async with (
        await rpc.serve({"m": raises}, "127.0.0.1:0") as server,
        await rpc.connect(str(server.address)) as client,
    ):
        with pytest.raises(RemoteError, match=MARK):
            await client.call("m", MARK.encode(), timeout_ms=20_000)


async def of_services() -> None:
    async with (
        await dubbo.serve(Throwing(), 0) as server,
        dubbo.Client(f"dubbo://{server.address}", timeout_ms=20_000) as client,
    ):
        service = client.service("a.B")
        with pytest.raises(JavaError, match=MARK):
            await service.fail(MARK)
        with pytest.raises(DragomanError):
            await service.odd(MARK)


async def of_agents() -> None:
    class Broken:
        def make(self, *args: object) -> None:
            raise RuntimeError(f"{MARK} {args}")

    async def answer(frame: Frame) -> bytes | None:
        return None

    text = b'["' + b"x" * 40 + MARK.encode() + b'"]'
    body = b"a.B\0m\0\0\0" + b'{"args":[' + b",".join([text] * 20_000) + b"]}"
    # The request that was lost with its session stays in progress.
    with contextlib.suppress(TimeoutError):
        async with way(answer, serialization="hessian2", transcoder=Broken()) as one:
            with pytest.raises(DragomanError):
                await one.call("json", body)


@pytest.mark.parametrize("path", [of_rpc, of_services, of_agents])
def test_what_is_raised_is_told_by_type_and_place(path: Any, log: io.StringIO) -> None:
    asyncio.run(path())
    text = log.getvalue()
    assert re.search(r"(Error|Misfit) \(\w+\.pyx?:\d+ in ", text), text
    assert MARK not in text


def test_what_the_loop_logs_shows_no_value(log: io.StringIO) -> None:
    root = logging.getLogger()
    root.handlers[:] = root.handlers[:1]

    async def scenario() -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "it failed", "exception": ValueError(MARK), "future": Odd()}
        )

    asyncio.run(scenario())
    assert log.getvalue().endswith("it failed; ValueError\n")


def test_an_exception_is_its_type_and_its_innermost_places() -> None:
    def inner() -> None:
        raise KeyError(MARK)

    try:
        inner()
    except KeyError as error:
        place = place_of(error)
    assert re.fullmatch(
        r"KeyError \(test_faults.py:\d+ in inner < test_faults.py:\d+ in .*\)", place
    )
    assert place_of(ValueError(MARK)) == "ValueError"


def test_nothing_logs_an_exception_in_another_way() -> None:
    # A race has no data but its own, and its log is for whoever mends it.
    found = [
        f"{path.relative_to(SOURCE)}:{number}"
        for suffix in ("*.py", "*.pyx")
        for path in SOURCE.rglob(suffix)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\blog(ger)?\.exception\(|exc_info=", line)
        and path != SOURCE / "race" / "workflow.py"
    ]
    assert not found, "log_fault of observe.faults is for that"
