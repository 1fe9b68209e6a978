"""Who may call a consumer agent, by what, and what its responses say: a real agent of its own
options, and the shared ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest

from tests.faults.chain import Program, chain, start
from tests.faults.conftest import Mesh
from tests.faults.http import INTERFACE, Response, call, client, form, is_hash, post
from tests.waiting import until

APP = "https://app.example.com"


@pytest.fixture(scope="module")
def open_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """An agent that takes GET, pages of one origin and few hosts, and waits little for bodies."""
    with chain(tmp_path_factory.mktemp("access")) as made:
        provider = made.provider("provider", "--delay-ms", "1")
        beside = made.provider_agent("beside", provider)
        options = ["--allow-get", "--allow-origin", APP, "--allow-host", "t", "--allow-host"]
        options += ["api.example.com:8080", "--header-timeout-ms", "10000"]
        options += ["--allow-host", "Dotted.example.", "--allow-host", "[0:0::1]"]
        options += ["--allow-host", "plain.example:80", "--allow-origin", "http://[::1]:80"]
        agent = made.consumer_agent(
            "consumer", *options, "--body-timeout-ms", "600", "--body-rate-min", "0"
        )

        async def begin() -> None:
            await made.etcd.start()
            await start(provider, beside, agent)
            await agent.settled(1)

        asyncio.run(begin())
        yield agent


def asked(agent: Program, *requests: bytes) -> list[Response]:
    """The responses to requests on one connection."""

    async def scenario() -> list[Response]:
        async with client(agent.port) as one:
            return [await one.ask(each) for each in requests]

    return asyncio.run(scenario())


def get(query: str, method: str = "hash", *fields: str) -> bytes:
    lines = [f"GET /{INTERFACE}/{method}?{query} HTTP/1.1", "Host: t", *fields, "", ""]
    return "\r\n".join(lines).encode()


def test_every_response_says_when_it_was_made(mesh: Mesh) -> None:
    answers = asked(mesh.agent, form("a"), call("hash", b"{"), call("nothing", b'{"oneway":true}'))
    assert [answer.status for answer in answers] == [200, 400, 202]
    for answer in answers:
        made = parsedate_to_datetime(answer.headers["date"])
        assert made.tzinfo is not None and answer.headers["date"].endswith(" GMT")


def test_http_1_0_is_told_that_its_connection_stays(mesh: Mesh) -> None:
    keep = "Connection: keep-alive"
    kind = "application/json"
    bad = post(f"/{INTERFACE}/hash", b"{", keep, kind=kind, version="1.0")
    for answer in asked(mesh.agent, form("a", keep, version="1.0"), bad, form("a")):
        if answer.headers.get("connection") is not None:
            assert answer.headers["connection"] == "keep-alive"
        assert not answer.closes


def test_a_byte_order_mark_is_skipped(mesh: Mesh) -> None:
    (answer,) = asked(mesh.agent, call("hash", b'\xef\xbb\xbf{"args":["abc"]}'))
    assert (answer.status, answer.body) == (200, b"96354")


def test_a_member_that_is_meant_otherwise_is_named_with_the_right_one(mesh: Mesh) -> None:
    near, far = asked(
        mesh.agent, call("hash", b'{"arg":["a"]}'), call("hash", b'{"xyz":1,"args":["a"]}')
    )
    assert near.body == b"body: unknown 'arg': did you mean 'args'?\n"
    assert b"unknown 'xyz': expected types, args, group" in far.body


def test_an_https_target_on_the_plain_port_is_misdirected(mesh: Mesh) -> None:
    body = b"interface=x"
    request = b"POST https://t/ HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\n" + body
    (answer,) = asked(mesh.agent, request)
    assert (answer.status, answer.error, answer.closes) == (421, "misdirected", True)


def test_a_page_of_an_allowed_origin_may_call_and_read(open_agent: Program) -> None:
    origin = f"Origin: {APP}"
    preflight = (
        f"OPTIONS /{INTERFACE}/hash HTTP/1.1\r\nHost: t\r\n{origin}\r\n"
        "Access-Control-Request-Method: POST\r\n\r\n"
    ).encode()

    async def scenario() -> None:
        async with client(open_agent.port) as one:
            one.send(preflight)
            head = await one.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 204 ")
            assert f"access-control-allow-origin: {APP}".encode() in head
            assert b"access-control-allow-methods: GET, POST" in head
            assert b"content-type" in head
            good = await one.ask(call("hash", b'{"args":["abc"]}', origin))
            bad = await one.ask(call("hash", b"{", origin))
            assert (good.status, good.body, bad.status) == (200, b"96354", 400)
            for answer in (good, bad):
                assert answer.headers["access-control-allow-origin"] == APP
                assert answer.headers["vary"] == "origin"
            other = await one.ask(call("hash", b'{"args":["a"]}', "Origin: https://evil.example"))
            assert (other.status, other.error) == (403, "forbidden")
            assert "access-control-allow-origin" not in other.headers

    asyncio.run(scenario())


def test_without_an_allowed_origin_there_is_no_cors(mesh: Mesh) -> None:
    preflight = f"OPTIONS / HTTP/1.1\r\nHost: t\r\nOrigin: {APP}\r\n\r\n".encode()
    (answer,) = asked(mesh.agent, preflight)
    assert answer.status == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("t", 200),
        ("T:99", 200),
        ("api.example.com:8080", 200),
        ("api.example.com", 421),
        ("api.example.com:81", 421),
        ("evil.example", 421),
        ("127.0.0.1", 421),
        ("T.", 200),
        ("t.:", 200),
        ("api.example.com.:8080", 200),
        ("api.example.com..:8080", 421),
        ("dotted.EXAMPLE:1", 200),
        ("[::1]", 200),
        ("[0:0:0:0:0:0:0:1]:81", 200),
        ("[::0.0.0.1]", 200),
        ("[::2]", 421),
        ("[:::::]", 421),
        ("plain.example", 200),
        ("plain.example.:80", 200),
        ("plain.example:0080", 200),
        ("plain.example:8080", 421),
    ],
)
def test_requests_for_other_hosts_are_misdirected(
    open_agent: Program, host: str, status: int
) -> None:
    kind = "application/json"
    body = b'{"args":["abc"]}'
    target = f"/{INTERFACE}/hash"
    plain, absolute = asked(
        open_agent,
        post(target, body, kind=kind, host=host),
        # The target's authority counts, whatever Host says.
        post(f"http://{host}{target}", body, kind=kind, host="t"),
    )
    assert (plain.status, absolute.status) == (status, status)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (APP, 200),
        (f"{APP}:443", 200),
        (f"{APP}:80", 403),
        (f"{APP}.", 403),
        ("http://[::1]", 200),
        ("http://[0::1]:80", 200),
        ("https://[::1]", 403),
        ("null", 403),
        (f"{APP} https://evil.example", 403),
    ],
)
def test_an_origin_is_the_same_however_it_is_written(
    open_agent: Program, origin: str, status: int
) -> None:
    (answer,) = asked(open_agent, call("hash", b'{"args":["abc"]}', f"Origin: {origin}"))
    assert answer.status == status


@pytest.mark.parametrize(
    "lines",
    [
        (f"Origin: {APP}", "Origin: https://evil.example"),
        (f"Origin: {APP}", f"origin: {APP}"),
        ("Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"),
        ("X-Dragoman-Timeout-Ms: 1000", "X-Dragoman-Timeout-Ms: 1"),
        ("X-Dragoman-Group: a", "X-Dragoman-Group: b"),
        ("X-Dragoman-Version: 1", "X-Dragoman-Version:"),
        ("Content-Encoding: identity", "Content-Encoding: gzip"),
        ("Content-Type: application/json",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Content-Length: 16",),
        ("Host: t",),
        ("Access-Control-Request-Method: POST", "Access-Control-Request-Method: PUT"),
    ],
    ids=lambda lines: lines[-1],
)
def test_a_field_that_decides_is_said_once(open_agent: Program, lines: tuple[str, ...]) -> None:
    ask = call("hash", b'{"args":["abc"]}', *lines)
    preflight = ask.replace(b"POST /", b"OPTIONS /", 1)
    name = lines[-1].partition(":")[0].title()
    for request in (ask, preflight):
        (answer,) = asked(open_agent, request)
        assert (answer.status, answer.error, answer.closes) == (400, "malformed", True)
        assert answer.body == f"{name} is repeated\n".encode()
        assert "access-control-allow-origin" not in answer.headers


def test_json_in_another_charset_is_refused_in_one_line(open_agent: Program) -> None:
    body = b'{"args":["abc"]}'
    target = f"/{INTERFACE}/hash"
    latin, root, good = asked(
        open_agent,
        post(target, body, kind="application/json; charset=latin-1"),
        post("/", body, kind="application/json; charset=latin-1"),
        post(target, body, kind='application/json; charset="UTF-8"'),
    )
    for answer in (latin, root):
        assert (answer.status, answer.error) == (415, "unsupported-media-type")
        assert answer.body == b"Content-Type: charset=utf-8, or none, was expected\n"
    assert (good.status, good.body) == (200, b"96354")


@pytest.mark.parametrize(
    ("query", "method", "body"),
    [
        ("arg=abc", "hash", b"96354"),
        ("arg=abc&type=java.lang.String", "hash", b"96354"),
        ("arg=5&type=java.lang.String", "hash", b"53"),
        ("args=" + quote('["abc"]'), "hash", b"96354"),
        ("arg=2&arg=3", "add", b"5"),
        ("arg=2&arg=3&type=int&type=int", "add", b"5"),
        ("arg=" + quote('{"a":[1,null]}'), "bean", b'{"a":[1,null]}'),
        ("arg=%C3%A4", "hash", b"228"),
        ("", "nothing", b"null"),
    ],
)
def test_a_query_holds_the_arguments_where_get_is_allowed(
    open_agent: Program, query: str, method: str, body: bytes
) -> None:
    (answer,) = asked(open_agent, get(query, method))
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("args=[1]&arg=2", b"not both"),
        ("args=x", b"JSON"),
        ("versoin=1", b"did you mean 'version'?"),
        ("argument=x", b"expected arg, type, args, group, version"),
        ("arg=1&type=int&type=int", b"a type for each"),
        ("arg", b"name=value"),
        ("arg=%ff", b"UTF-8"),
        ("group=a&group=b", b"repeated"),
        ("&".join(["arg=1"] * 600), b"query"),
    ],
)
def test_a_query_that_means_nothing_gets_one_line(
    open_agent: Program, query: str, says: bytes
) -> None:
    bad, good = asked(open_agent, get(query), get("arg=abc"))
    assert (bad.status, bad.error) == (400, "malformed")
    assert says in bad.body and bad.body.count(b"\n") == 1
    assert good.body == b"96354"


def test_get_from_another_site_is_refused_though_it_brings_no_origin(open_agent: Program) -> None:
    image, own = asked(
        open_agent,
        get("arg=abc", "hash", "Sec-Fetch-Site: cross-site"),
        get("arg=abc", "hash", "Sec-Fetch-Site: none"),
    )
    assert (image.status, own.status) == (403, 200)


def test_a_body_has_a_time_of_its_own(open_agent: Program) -> None:
    async def scenario() -> None:
        async with client(open_agent.port) as one:
            whole = form("x")
            one.send(whole[:-1])
            answer = await one.response()
            assert (answer.status, answer.error, answer.closes) == (408, "request-timeout", True)
        async with client(open_agent.port) as one:
            # A head may take longer than a body may.
            head, _, body = whole.partition(b"\r\n\r\n")
            one.send(head[:-1])
            await asyncio.sleep(1.0)
            one.send(head[-1:] + b"\r\n\r\n" + body)
            assert is_hash(await one.response(), "x")

    asyncio.run(scenario())


def test_a_failed_call_leaves_a_line_without_its_values(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            fields = ("x-dragoman-group: slow", "x-dragoman-timeout-ms: 50")
            for _ in range(5):
                assert (await one.ask(form("sesame-opens", *fields))).status == 504
        line = f"a call failed: hash of slow/{INTERFACE} at "
        await until(lambda: line in mesh.agent.text(), why=mesh.agent.tail)
        (told,) = [each for each in mesh.agent.text().splitlines() if line in each][:1]
        # Whichever end notices first.
        assert ": deadline: " in told
        assert "sesame" not in mesh.agent.text()

    asyncio.run(scenario())


def test_the_start_tells_version_registry_admin_and_settings(open_agent: Program) -> None:
    text = open_agent.text()
    (line,) = [each for each in text.splitlines() if " dragoman " in each and "registry" in each]
    for part in ("registry etcd://127.0.0.1:", "admin pages on 127.0.0.1:", "allow_get True"):
        assert part in line
    assert line.count("admin") == 1
