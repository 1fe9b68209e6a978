"""What is not HTTP, or is too much of it, gets its status; then the connection closes gently."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.conftest import Mesh
from tests.faults.http import client, form, form_body, is_hash, post
from tests.load_factor import load_factor
from tests.waiting import until

FORM = form_body("x")
LENGTH = f"Content-Length: {len(FORM)}"


def raw(*lines: str, body: bytes = FORM, line: str = "POST / HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: t", *lines, "", ""]).encode("latin-1") + body


def chunked(body: bytes, *lines: str) -> bytes:
    return raw("Transfer-Encoding: chunked", *lines, body=body)


def without_host(*lines: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", *lines, LENGTH, "", ""]).encode() + FORM


NAMES = {
    400: "malformed",
    405: "method-not-allowed",
    413: "too-large",
    414: "target-too-long",
    417: "expectation-failed",
    431: "head-too-large",
    501: "unsupported",
    505: "version-not-supported",
}
REFUSED = {
    "both lengths": (400, raw(LENGTH, "Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "both lengths, other order": (400, chunked(b"0\r\n\r\n", LENGTH)),
    "two lengths": (400, raw(LENGTH, "Content-Length: 1")),
    "the same length twice": (400, raw(LENGTH, LENGTH)),
    "empty length": (400, raw("Content-Length:")),
    "signed length": (400, raw("Content-Length: +5")),
    "negative length": (400, raw("Content-Length: -5")),
    "hex length": (400, raw("Content-Length: 0x5")),
    "length with _": (400, raw("Content-Length: 1_0")),
    "length list": (400, raw("Content-Length: 5, 5")),
    "length over 2^63": (400, raw("Content-Length: 9223372036854775808")),
    "unknown coding": (501, raw("Transfer-Encoding: gzip, chunked")),
    "coding that does not end": (400, raw("Transfer-Encoding: gzip")),
    "chunked not last": (400, raw("Transfer-Encoding: chunked, gzip")),
    "chunked twice": (400, raw("Transfer-Encoding: chunked, chunked")),
    "chunked in two fields": (400, chunked(b"0\r\n\r\n", "Transfer-Encoding: chunked")),
    "chunked obfuscated": (400, raw("Transfer-Encoding: \x0bchunked")),
    "chunked on HTTP/1.0": (
        400,
        raw("Transfer-Encoding: chunked", body=b"0\r\n\r\n", line="POST / HTTP/1.0"),
    ),
    "chunk size signed": (400, chunked(b"+5\r\nabcde\r\n0\r\n\r\n")),
    "chunk size 0x": (400, chunked(b"0x5\r\nabcde\r\n0\r\n\r\n")),
    "chunk size with _": (400, chunked(b"0_5\r\nabcde\r\n0\r\n\r\n")),
    "chunk size padded": (400, chunked(b" 5\r\nabcde\r\n0\r\n\r\n")),
    "chunk size overflows": (400, chunked(b"fffffffffffffffff\r\n")),
    "chunk beyond the size": (400, chunked(b"5\r\nabcdefg\r\n0\r\n\r\n")),
    "chunk with bare LF": (400, chunked(b"5\nabcde\r\n0\r\n\r\n")),
    "chunk extensions of 2 KiB": (400, chunked(b"5;a=" + b"b" * 2048 + b"\r\nabcde\r\n0\r\n\r\n")),
    "chunks too large": (413, chunked(b"7fffffff\r\n")),
    "trailers too large": (431, chunked(b"0\r\na: " + b"b" * 20000 + b"\r\n\r\n")),
    "bare LF": (400, b"POST / HTTP/1.1\nHost: t\n\n"),
    "bare CR": (400, raw("a: b\rc: d", LENGTH)),
    "folded": (400, raw("a: b\r\n c", LENGTH)),
    "space before the colon": (400, raw("a : b", LENGTH)),
    "empty name": (400, raw(": b", LENGTH)),
    "no token": (400, raw("a(b): c", LENGTH)),
    "NUL": (400, raw("a: b\0c", LENGTH)),
    "control": (400, raw("a: b\x07c", LENGTH)),
    "no Host": (400, without_host()),
    "two Hosts": (400, without_host("Host: a", "Host: a")),
    "empty Host": (400, without_host("Host:")),
    "Host with user": (400, without_host("Host: a@b")),
    "Host with path": (400, without_host("Host: a/b")),
    "bad version": (400, raw(LENGTH, line="POST / HTTP/x")),
    "version 2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "unknown method": (501, raw(LENGTH, line="BREW / HTTP/1.1")),
    "CONNECT": (405, raw(line="CONNECT t:80 HTTP/1.1", body=b"")),
    "TRACE": (405, raw(line="TRACE / HTTP/1.1", body=b"")),
    "target of 9 KiB": (414, raw(LENGTH, line=f"POST /{'a' * 9216} HTTP/1.1")),
    "head of 17 KiB": (431, raw(*(f"a{i}: {'b' * 1000}" for i in range(17)), LENGTH)),
    "101 fields": (431, raw(*(f"a{i}: b" for i in range(101)), LENGTH)),
    "body of 9 MiB": (413, raw(f"Content-Length: {9 << 20}", body=b"")),
    "unknown Expect": (417, raw("Expect: tea", LENGTH)),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    "a mesh peer": (400, b"\x10\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0DRGM\1\0\1\0\0\0\0\0\0\0\0\1"),
}


async def refused(mesh: Mesh, data: bytes, status: int, *, pieces: int = 0) -> None:
    async with client(mesh.agent.port) as one:
        if pieces:
            for start in range(0, len(data), pieces):
                one.send(data[start : start + pieces])
                await asyncio.sleep(0)
        else:
            one.send(data)
        answer = await one.response()
        assert (answer.status, answer.error) == (status, NAMES[status]), answer
        assert answer.closes
        if status == 405:
            assert answer.headers["allow"] == "POST"
        await one.ends()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_malformed_gets_its_status_and_the_end(mesh: Mesh, name: str) -> None:
    status, data = REFUSED[name]

    async def scenario() -> None:
        await refused(mesh, data, status)
        # The same in two reads, and with more data behind it.
        await refused(mesh, data, status, pieces=max(1, len(data) // 2))
        await refused(mesh, data + b"\r\n" + form("more"), status)

    asyncio.run(scenario())


def test_nothing_of_all_that_reached_a_provider_or_stayed_open(mesh: Mesh) -> None:
    async def scenario() -> None:
        async def none_left() -> bool:
            return await mesh.agent.metric("dragoman_http_connections") == 0

        await until(none_left)
        assert await mesh.agent.metric("dragoman_http_in_progress") == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "head",
    [
        raw(f"Content-Length: {16 << 20}", body=b""),
        chunked(b"fffffff\r\n"),
        raw("a : b", body=b""),
        form("x", "Connection: close"),
    ],
    ids=["length", "chunked", "malformed", "after the last request"],
)
def test_a_client_that_goes_on_sending_can_read_the_answer(mesh: Mesh, head: bytes) -> None:
    """It does not look before all is sent: 12 MiB that nobody wants."""

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            one.send(head)
            for _ in range(12 * 16):
                one.send(b"x" * 65536)
                await one.writer.drain()
            answer = await one.response()
            assert answer.status in (400, 413) or is_hash(answer, "x")
            assert answer.closes
            await one.ends()

    asyncio.run(scenario())


def test_a_client_that_never_stops_sending_is_cut_off(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            one.send(raw("a : b", body=b""))
            with pytest.raises(OSError):
                for _ in range(100 * 16):
                    one.send(b"x" * 65536)
                    await one.writer.drain()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_client_that_goes_on_sending_slowly_is_cut_off(mesh: Mesh) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with client(mesh.agent.port) as one:
            one.send(raw("a : b", body=b""))
            began_s = loop.time()
            with pytest.raises(OSError):
                while loop.time() - began_s < 30:
                    one.send(b"x" * 1000)
                    await one.writer.drain()
                    await asyncio.sleep(0.01)
            assert loop.time() - began_s < 15 * load_factor()

    asyncio.run(scenario())


def test_valid_requests_then_garbage_are_answered_in_turn(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            one.send(form("a") + form("b") + b"\0garbage\r\n\r\n" + form("never"))
            assert is_hash(await one.response(), "a")
            assert is_hash(await one.response(), "b")
            answer = await one.response()
            assert (answer.status, answer.closes) == (400, True)
            await one.ends()

    asyncio.run(scenario())


def test_what_follows_a_request_to_close_is_not_served(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            one.send(form("a", "Connection: close") + form("b"))
            answer = await one.response()
            assert is_hash(answer, "a") and answer.closes
            await one.ends()

    asyncio.run(scenario())


def test_http_1_0_is_answered_and_closed_unless_it_asks_to_stay(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(form("a", version="1.0")), "a")
            await one.ends()
        async with client(mesh.agent.port) as one:
            for text in ("a", "b"):
                asked = form(text, "Connection: keep-alive", version="1.0")
                answer = await one.ask(asked)
                assert is_hash(answer, text)
                assert answer.headers["connection"].lower() == "keep-alive"

    asyncio.run(scenario())


def test_a_body_comes_chunked_with_trailers_that_count_for_nothing(mesh: Mesh) -> None:
    body = b"".join(b"%x;q=1\r\n%b\r\n" % (len(p), p) for p in (FORM[:1], FORM[1:30], FORM[30:]))

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            one.send(chunked(body + b"0\r\nx-dragoman-group: nobody\r\n\r\n"))
            assert is_hash(await one.response(), "x")
            assert is_hash(await one.ask(form("next")), "next")

    asyncio.run(scenario())


def test_expect_100_continue_is_told_to_go_on(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            for text in ("a", "b"):
                head, _, body = form(text, "Expect: 100-continue").partition(b"\r\n\r\n")
                one.send(head + b"\r\n\r\n")
                assert (await one.response()).status == 100
                one.send(body)
                assert is_hash(await one.response(), text)
            # Who does not wait for it may get none, and gets the answer.
            one.send(form("c", "Expect: 100-continue"))
            answer = await one.response()
            if answer.status == 100:
                answer = await one.response()
            assert is_hash(answer, "c")
            # A body that is too large is not invited.
            one.send(raw(f"Content-Length: {9 << 20}", "Expect: 100-continue", body=b""))
            assert (await one.response()).status == 413

    asyncio.run(scenario())


def test_a_request_with_an_absolute_target_is_served(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(post("http://t/", form_body("a"))), "a")

    asyncio.run(scenario())
