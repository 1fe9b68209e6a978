"""Both HTTP contracts through the whole chain: what goes in comes out, or one clear error does."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.faults.conftest import Mesh
from tests.faults.http import INTERFACE, call, client, form, form_body, is_hash, post
from tests.load_factor import load_factor

TEXTS = {
    "empty": "",
    "ascii": "abc XYZ 019",
    "unicode": "äöü ß 漢字 \u2028 €",
    "beyond the basic plane": "😀 𝒳 \U0010ffff",
    "quotes": "\"double\" 'single' \\back\\slash /",
    "newlines": 'a\nb\r\nc\td\0e\x1f\x7f"\n{"path":"x"}\n',
    "markup": '{"@type":"com.example.Evil","a":["b"]}',
    "form marks": "a=b&c=d%20+%zz;interface=x",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_comes_back_as_it_was(mesh: Mesh, name: str) -> None:
    text = TEXTS[name]

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(form(text)), text)
            echoed = await one.ask(form(text, method="echo"))
            assert (echoed.status, echoed.body.decode()) == (200, text)
            for ascii_only in (True, False):
                body = json.dumps({"args": [text]}, ensure_ascii=ascii_only).encode()
                assert is_hash(await one.ask(call("hash", body)), text)
                echoed = await one.ask(call("echo", body))
                assert echoed.headers["content-type"] == "application/json"
                assert json.loads(echoed.body) == text

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["x" * (1 << 20), "漢\n" * (1 << 18)], ids=["ascii", "escaped"])
def test_a_parameter_of_1_mib_comes_back(mesh: Mesh, text: str) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(form(text)), text)
            assert (await one.ask(form(text, method="echo"))).body.decode() == text
            body = json.dumps({"args": [text]}).encode()
            assert json.loads((await one.ask(call("echo", body))).body) == text

    asyncio.run(scenario())


NESTED = {"name": 'a"b', "list": [1, -2.5, None, {"deep": [[[]]], "t": True}], "type": "x.Y"}


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        ("now", b"", 1527811200000),
        ("now", b"{}", 1527811200000),
        ("now", b'{"args": []}', 1527811200000),
        ("now", b'{"types": [], "args": []}', 1527811200000),
        ("nothing", b"{}", None),
        ("echo", b'{"types": ["java.lang.String"], "args": [null]}', None),
        ("add", b'{"args": [2, 3]}', 5),
        ("add", b'{"types": ["int", "int"], "args": [2147483647, 1]}', -2147483648),
        ("bean", json.dumps({"args": [NESTED]}).encode(), NESTED),
        ("bean", json.dumps({"types": ["java.util.Map"], "args": [NESTED]}).encode(), NESTED),
        ("$echo", b'{"args": [null]}', None),
    ],
)
def test_the_json_contract_carries_any_arguments(
    mesh: Mesh, method: str, body: bytes, expected: object
) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            answer = await one.ask(call(method, body))
            assert answer.status == 200, answer
            assert json.loads(answer.body) == expected

    asyncio.run(scenario())


@pytest.mark.parametrize("name", [b"@type", b"\\u0040type"])
def test_an_argument_that_names_a_class_is_refused(mesh: Mesh, name: bytes) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            answer = await one.ask(call("bean", b'{"args": [{"a": [{"%s": "x.Y"}]}]}' % name))
            assert answer.status == 400, answer
            assert b"args[0]: @type" in answer.body

    asyncio.run(scenario())


def test_a_form_carries_other_types_as_json(mesh: Mesh) -> None:
    head = f"interface={INTERFACE}&method="

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            answer = await one.ask(post("/", f"{head}now".encode()))
            assert (answer.status, answer.body) == (200, b"1527811200000")
            answer = await one.ask(post("/", f"{head}nothing&parameterTypesString=".encode()))
            assert (answer.status, answer.body) == (200, b"null")
            bean = "bean&parameterTypesString=Ljava/util/Map;&parameter=%7B%22a%22:[1]%7D"
            answer = await one.ask(post("/", f"{head}{bean}".encode()))
            assert (answer.status, json.loads(answer.body)) == (200, {"a": [1]})

    asyncio.run(scenario())


def test_form_fields_come_in_any_order_with_strangers_between(mesh: Mesh) -> None:
    fields = form_body("a b").decode().split("&")

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            for turned in (fields, fields[::-1], [*fields[2:], "x=%zz", "x", *fields[:2], ""]):
                answer = await one.ask(post("/", "&".join(turned).encode()))
                assert is_hash(answer, "a b"), (turned, answer)

    asyncio.run(scenario())


def test_group_and_version_choose_the_service(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            for asked in (
                form("g", "x-dragoman-group: tiny"),
                call("hash", b'{"args":["g"]}', "X-Dragoman-Group: tiny"),
                call("hash", b'{"args":["g"],"group":"tiny","version":""}'),
                call("hash", b'{"args":["g"],"group":"tiny","version":"0.0.0"}'),
            ):
                assert is_hash(await one.ask(asked), "g")
            for asked in (
                form("g", "x-dragoman-group: nobody"),
                form("g", "x-dragoman-version: 9.9"),
                call("hash", b'{"args":["g"],"group":"nobody"}'),
                call("hash", b'{"args":["g"],"version":"1.0"}', "x-dragoman-group: tiny"),
            ):
                answer = await one.ask(asked)
                assert (answer.status, answer.error) == (404, "not-found")

    asyncio.run(scenario())


BAD_FORM = f"interface={INTERFACE}&method=hash&parameterTypesString=Ljava/lang/String;"
REFUSED = {
    "unknown service": (404, call("hash", b"{}", interface="com.example.Nobody")),
    "unknown service by form": (404, post("/", b"interface=com.example.Nobody&method=x")),
    "wrong path": (404, post("/a", b"{}", kind="application/json")),
    "path too long": (404, post("/a/b/c", b"{}", kind="application/json")),
    "json at /": (404, post("/", b"{}", kind="application/json")),
    "bad interface": (400, call("hash", b"{}", interface="a%20b")),
    "bad method": (400, call("a;b", b"{}")),
    "not json": (400, call("hash", b"{")),
    "json but no object": (400, call("hash", b"[1]")),
    "json with more after it": (400, call("hash", b"{} {}")),
    "json of bad encoding": (400, call("hash", b'{"args":["\xff"]}')),
    "json with a lone surrogate in a name": (400, call("hash", b'{"group":"\\ud800"}')),
    "json with a raw control character": (400, call("hash", b'{"args":["a\x01"]}')),
    "json with bad number": (400, call("hash", b'{"args":[01]}')),
    "json too deep": (400, call("hash", b'{"args":[' + b"[" * 9999 + b"]" * 9999 + b"]}")),
    "args no list": (400, call("hash", b'{"args":{}}')),
    "types no texts": (400, call("hash", b'{"types":[1],"args":["a"]}')),
    "fewer types than args": (400, call("hash", b'{"types":[],"args":["a"]}')),
    "more types than args": (400, call("hash", b'{"types":["int","int"],"args":[1]}')),
    "type with a quote": (400, call("hash", b'{"types":["int\\"x"],"args":[1]}')),
    "too many args": (400, call("hash", json.dumps({"args": [1] * 300}).encode())),
    "bad group": (400, call("hash", b'{"args":["a"],"group":"a b"}')),
    "other content": (415, post("/", form_body(), kind="text/plain")),
    "no interface": (400, post("/", b"method=hash")),
    "no method": (400, post("/", f"interface={INTERFACE}".encode())),
    "no parameter": (400, post("/", BAD_FORM.encode())),
    "interface twice": (400, post("/", f"{BAD_FORM}&parameter=a&interface=b".encode())),
    "method twice": (400, post("/", f"{BAD_FORM}&parameter=a&method=b".encode())),
    "bad escape": (400, post("/", f"{BAD_FORM}&parameter=%4".encode())),
    "text that is no utf-8": (400, post("/", f"{BAD_FORM}&parameter=%ff".encode())),
    "surrogate in utf-8": (400, post("/", f"{BAD_FORM}&parameter=%ed%a0%80".encode())),
    "bad descriptor": (
        400,
        post("/", f"interface={INTERFACE}&method=a&parameterTypesString=Lx&parameter=1".encode()),
    ),
    "two parameters": (
        400,
        post("/", f"interface={INTERFACE}&method=a&parameterTypesString=II&parameter=1".encode()),
    ),
    "parameter that is no json": (
        400,
        post("/", f"interface={INTERFACE}&method=a&parameterTypesString=I&parameter=1x".encode()),
    ),
    "no such method": (404, call("hash", b'{"args":[1, 2, 3]}')),
    "the provider throws": (500, call("fail", '{"args":["böse\\n\\"x\\""]}'.encode())),
    "timeout 0": (400, form("a", "x-dragoman-timeout-ms: 0")),
    "timeout in words": (400, form("a", "x-dragoman-timeout-ms: soon")),
    "timeout negative": (400, form("a", "x-dragoman-timeout-ms: -1")),
    "timeout too long": (400, form("a", "x-dragoman-timeout-ms: 1000000000000")),
    "json without its type": (415, post(f"/{INTERFACE}/hash", b'{"args":["a"]}')),
    "json as text": (415, post(f"/{INTERFACE}/hash", b'{"args":["a"]}', kind="text/plain")),
    "compressed": (415, call("hash", b'{"args":["a"]}', "Content-Encoding: gzip")),
    "a form compressed": (415, form("a", "Content-Encoding: br")),
    "unknown member": (400, call("hash", b'{"arg":["a"]}')),
    "unknown member beside known ones": (400, call("hash", b'{"args":["a"],"timeout":5}')),
    "a page asks": (403, call("hash", b'{"args":["a"]}', "Origin: http://evil.example")),
    "a page of no origin asks": (403, form("a", "Origin: null")),
    "a page asks by a form": (403, form("a", "Sec-Fetch-Site: cross-site")),
    "a page of a neighbour asks": (403, form("a", "Sec-Fetch-Site: same-site")),
}
NAMES = {
    400: "malformed",
    403: "forbidden",
    404: "not-found",
    415: "unsupported-media-type",
    500: "remote",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_call_gets_one_line_and_the_connection_goes_on(mesh: Mesh, name: str) -> None:
    status, asked = REFUSED[name]

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            answer = await one.ask(asked)
            assert (answer.status, answer.error) == (status, NAMES[status]), answer
            assert answer.body.count(b"\n") == 1 and answer.body.endswith(b"\n")
            assert not answer.closes
            assert is_hash(await one.ask(form("next")), "next")

    asyncio.run(scenario())


def test_other_methods_get_405_and_what_is_allowed(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
                one.send(f"{method} / HTTP/1.1\r\nHost: t\r\n\r\n".encode())
                answer = await one.response()
                assert (answer.status, answer.error) == (405, "method-not-allowed")
                assert answer.headers["allow"] == "POST"
            assert is_hash(await one.ask(form("next")), "next")

    asyncio.run(scenario())


def test_the_answer_to_head_has_no_body(mesh: Mesh) -> None:
    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            one.send(b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n")
            answer = await one.response(head_only=True)
            assert answer.status == 405
            if answer.closes:
                await one.ends()
            else:
                assert is_hash(await one.ask(form("next")), "next")

    asyncio.run(scenario())


def test_a_timeout_of_the_callers_own_is_kept(mesh: Mesh) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with client(mesh.agent.port) as one:
            began_s = loop.time()
            fields = ("x-dragoman-group: slow", "x-dragoman-timeout-ms: 100")
            answer = await one.ask(form("a", *fields))
            assert (answer.status, answer.error) == (504, "deadline")
            # A provider's agent may give up a little earlier, to say what it knows.
            assert 0.05 <= loop.time() - began_s < 0.35 * load_factor()
            fields = ("x-dragoman-group: slow", "x-dragoman-timeout-ms: 3000")
            assert is_hash(await one.ask(form("b", *fields)), "b")

    asyncio.run(scenario())


def test_a_method_that_does_not_exist_is_asked_for_once_where_there_is_one_provider(
    mesh: Mesh,
) -> None:
    async def tried() -> tuple[int, int]:
        name = f"slow/{INTERFACE}"
        (service,) = [each for each in await mesh.agent.services() if each["service"] == name]
        return service["retried"], service["endpoints"][0]["requests"]

    async def scenario() -> None:
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(form("a", "x-dragoman-group: slow")), "a")
            retried, requests = await tried()
            for _ in range(3):
                asked = call("hash", b'{"args":[1, 2, 3]}', "x-dragoman-group: slow")
                assert (await one.ask(asked)).status == 404
            assert await tried() == (retried, requests + 3)

    asyncio.run(scenario())
