"""What real providers were seen to do (``docs/interop.md``), played by a fake one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from dragoman.errors import DeadlineError, NotFoundError, OverloadError, UnavailableError
from tests.dubbo.fake import POOL_EXHAUSTED, Frame, way

BODY = b"a.B\0m\0\0\0" + b'{"args": ["x"]}'
SERVICE_ERROR = 70
BAD_REQUEST = 40
# Dubbo 2.7.23 stops exporting as soon as it is told to stop, tens of milliseconds before it says so
# on its connections; 2.6.12 does it afterwards. Both were recorded from real providers.
UNEXPORTED = [
    (
        SERVICE_ERROR,
        "org.apache.dubbo.remoting.RemotingException: Not found exported service: a.B:20880 in [], "
        "may be version or group mismatch , channel: consumer: ...",
    ),
    (
        SERVICE_ERROR,
        "com.alibaba.dubbo.remoting.RemotingException: Not found exported service: a.B:20880 in "
        "[], may be version or group mismatch , channel: consumer: ...",
    ),
]
_NEW = "org.apache.dubbo.rpc.RpcException"
_OLD = "com.alibaba.dubbo.rpc.RpcException"
# 2.7 and 3.3 say so in status 40 where the method has parameters; else all of them in status 70.
UNKNOWN_METHOD = {
    "2.7": (
        BAD_REQUEST,
        "Fail to decode request due to: java.lang.IllegalArgumentException: Service not found:a.B, "
        "m\njava.lang.IllegalArgumentException: Service not found:a.B, m\n\tat org.apache...",
    ),
    "3.3 generic": (
        SERVICE_ERROR,
        f"{_NEW}: No such method m in class interface a.B\n{_NEW}: No such method m in class "
        "interface a.B\n\tat org.apache...",
    ),
    "2.7 generic": (SERVICE_ERROR, f"{_NEW}: a.B.m(int)\n{_NEW}: a.B.m(int)\n\tat org.apache..."),
    "2.6 generic": (SERVICE_ERROR, f"{_OLD}: a.B.m()\n{_OLD}: a.B.m()\n\tat com.alibaba..."),
    "3.3 without parameters": (
        SERVICE_ERROR,
        f"{_NEW}: Failed to invoke remote proxy method m to dubbo://h:1/a.B?methods="
        + ",".join(f"method{i}" for i in range(80))
        + '&c=d, cause: Not found method "m" in class a.B.\n\tat org.apache...',
    ),
}


@pytest.mark.parametrize(("status", "text"), UNEXPORTED)
def test_a_provider_that_exports_the_service_no_more_is_left_without_a_failure(
    status: int, text: str
) -> None:
    def leaving(asked: Frame) -> bytes:
        return asked.reply(json.dumps(text).encode() + b"\n", status=status)

    async def scenario() -> None:
        async with way(leaving) as one:
            with pytest.raises(UnavailableError) as caught:
                await one.call("json", BODY)
            assert caught.value.retry_safe

    asyncio.run(scenario())


@pytest.mark.parametrize("name", UNKNOWN_METHOD)
def test_a_method_that_a_provider_does_not_know_is_not_found_and_takes_it_from_nobody(
    name: str,
) -> None:
    status, text = UNKNOWN_METHOD[name]

    def unknown(asked: Frame) -> bytes:
        return asked.reply(json.dumps(text).encode() + b"\n", status=status)

    async def scenario() -> None:
        async with way(unknown) as one:
            with pytest.raises(NotFoundError):
                await one.call("json", BODY)

    asyncio.run(scenario())


def test_a_rejection_within_the_limit_is_put_to_the_same_provider_again() -> None:
    # A reply leaves a moment before its thread is back in the pool, which has no queue: what comes
    # in that moment is rejected although it is within the limit.
    count = 0

    def busy_at_first(asked: Frame) -> bytes:
        nonlocal count
        count += 1
        if count == 2:
            return asked.reply(b'"Thread pool is EXHAUSTED!"\n', status=POOL_EXHAUSTED)
        return asked.reply(b'1\n"fine"\n')

    async def scenario() -> None:
        async with way(busy_at_first, limit=2) as one:
            assert await one.call("json", BODY) == b'"fine"'
            assert await one.call("json", BODY) == b'"fine"'
            assert count == 3

    asyncio.run(scenario())


def test_an_array_of_beans_goes_generically_without_its_class() -> None:
    # Java's hessian2 makes beans of what is in an array of their class at once, and fails at maps.
    async def scenario() -> None:
        async with way(lambda asked: asked.reply(b"\x92"), serialization="hessian2") as one:
            arguments = b'{"types": ["a.Line[]"], "args": [[{"article": "x"}]]}'
            await one.call("json", b"a.B\0m\0\0\0" + arguments)
            assert b"[a.Line" not in one.provider.requests[0].body

    asyncio.run(scenario())


def test_a_local_date_time_is_one_text_in_json() -> None:
    path = Path(__file__).parents[2] / "conformance" / "dubbo" / "2.7-hessian2.json"
    calls = json.loads(path.read_text())["calls"]
    (recorded,) = (call for call in calls if call["name"] == "LocalDateTime")
    body = bytes.fromhex(recorded["reply"])[16:]

    async def scenario() -> None:
        async with way(lambda asked: asked.reply(body), serialization="hessian2") as one:
            assert await one.call("json", BODY) == b'"2020-02-29T23:59:58.123"'

    asyncio.run(scenario())


def test_a_provider_that_rejects_all_the_time_is_an_overload_in_the_end() -> None:
    async def scenario() -> None:
        def full(asked: Frame) -> bytes:
            return asked.reply(b'"Thread pool is EXHAUSTED!"\n', status=POOL_EXHAUSTED)

        async with way(full, limit=1) as one:
            with pytest.raises(OverloadError, match="EXHAUSTED") as caught:
                await one.call("json", BODY)
            assert caught.value.retry_safe
            assert len(one.provider.requests) == 6
            assert len({asked.id for asked in one.provider.requests}) == 6
            assert len({asked.body for asked in one.provider.requests}) == 1
            assert (one.egress.rejections, one.egress.sent_again) == (6, 5)

    asyncio.run(scenario())


def test_a_deadline_ends_the_waiting_for_a_place() -> None:
    async def scenario() -> None:
        def full(asked: Frame) -> bytes:
            return asked.reply(b'"Thread pool is EXHAUSTED!"\n', status=POOL_EXHAUSTED)

        async with way(full, limit=1) as one:
            with pytest.raises(DeadlineError):
                await one.call("json", BODY, timeout_ms=10)

    asyncio.run(scenario())
