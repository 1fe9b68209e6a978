"""Types that providers publish, for JSON calls without types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from dragoman.agent import published
from dragoman.agent.contract import json_call
from dragoman.agent.published import PublishedTypes, Signature
from dragoman.errors import RegistryError
from dragoman.registry import Registration
from dragoman.registry.memory import MemoryRegistry
from dragoman.registry.methods import Method, types_of

STATED = (
    Method(name="add", parameter_types=("long", "long"), return_type="long"),
    Method(name="find", parameter_types=("long",)),
    Method(name="find", parameter_types=("java.lang.String",)),
    Method(name="find", parameter_types=("java.util.List<long>", "int")),
)
SERVICE = ("com.example.Sums", "blue", "1.0")


class Publishing(MemoryRegistry):
    """A registry with the signatures of ``SERVICE``."""

    def __init__(self) -> None:
        super().__init__("published")
        self.asked: list[tuple[str, str, str]] = []
        self.methods: tuple[Method, ...] = STATED
        self.away = False

    async def metadata(
        self, interface: str, *, group: str = "", version: str = ""
    ) -> tuple[Method, ...]:
        await asyncio.sleep(0)
        self.asked.append((interface, group, version))
        if interface.endswith("Odd"):
            raise ValueError("a fault of the registry's")
        if self.away:
            raise RegistryError("away")
        return self.methods


def listed(protocol: str = "dubbo", interface: str = SERVICE[0]) -> Registration:
    return Registration(
        interface=interface, host="h", port=1, protocol=protocol, group="blue", version="1.0"
    )


def update(types: PublishedTypes, listed: list[Registration]) -> None:
    """All that is listed now."""
    before = vars(types).setdefault("listed_before", [])
    types.change([*((each, None) for each in before), *((None, each) for each in listed)])
    before[:] = listed


def run(work: Callable[[PublishedTypes, Publishing], Awaitable[None]]) -> None:
    async def main() -> None:
        registry = Publishing()
        types = PublishedTypes(asyncio.get_running_loop(), registry)
        await work(types, registry)
        await types.close()
        await registry.close()

    asyncio.run(main())


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_only_one_signature_of_a_name_and_a_number_of_parameters_is_sure() -> None:
    assert types_of(STATED, "add", 2) == ["long", "long"]
    assert types_of(STATED, "add", 1) is None
    assert types_of(STATED, "find", 1) is None
    assert types_of(STATED, "find", 2) == ["java.util.List<long>", "int"]
    assert types_of(STATED, "other", 0) is None


def test_listed_providers_without_an_agent_are_asked_for_once() -> None:
    async def work(types: PublishedTypes, registry: Publishing) -> None:
        update(types, [listed(), listed("mesh", "com.example.Other")])
        assert types.types(*SERVICE, "add", 2) is None
        await settled()
        assert types.types(*SERVICE, "add", 2) == ["long", "long"]
        update(types, [listed()])
        await settled()
        assert registry.asked == [SERVICE]
        assert types.types("com.example.Other", "blue", "1.0", "add", 2) is None

    run(work)


def test_what_is_published_late_is_found_without_a_call_and_at_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(types: PublishedTypes, registry: Publishing) -> None:
        assert published.MISSED_S <= 1 <= published.MISSED_MOST_S
        monkeypatch.setattr(published, "MISSED_S", 0.001)
        registry.methods = ()
        update(types, [listed()])
        while len(registry.asked) < 4:  # by itself
            await asyncio.sleep(0.001)
        registry.methods = STATED
        # No call has come meanwhile, so the first one has its types.
        asked = len(registry.asked)
        while len(registry.asked) == asked:
            await asyncio.sleep(0.001)
        await settled()
        assert types.types(*SERVICE, "add", 2) == ["long", "long"]
        # Known now, it is not asked for again.
        asked = len(registry.asked)
        await asyncio.sleep(0.02)
        assert len(registry.asked) == asked

        # A call asks at once, however long the next question is put off.
        monkeypatch.setattr(published, "MISSED_S", 1000.0)
        monkeypatch.setattr(published, "MISSED_MOST_S", 1000.0)
        registry.methods = ()
        update(types, [])
        update(types, [listed()])
        await settled()
        registry.methods = STATED
        monkeypatch.setattr(types, "_known", dict.fromkeys(types._known, (0.0, ())))
        assert types.types(*SERVICE, "add", 2) is None
        await settled()
        assert types.types(*SERVICE, "add", 2) == ["long", "long"]
        # What is gone is not asked for, whatever was to be asked again.
        update(types, [])
        assert not types._put_off_s

    run(work)


def test_a_service_that_is_gone_is_forgotten() -> None:
    async def work(types: PublishedTypes, registry: Publishing) -> None:
        update(types, [listed()])
        await settled()
        update(types, [])
        assert types.types(*SERVICE, "add", 2) is None

    run(work)


def test_old_answers_are_renewed_when_used_and_stand_while_the_registry_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(types: PublishedTypes, registry: Publishing) -> None:
        monkeypatch.setattr(published, "KEEP_S", -1.0)
        update(types, [listed()])
        await settled()
        registry.away = True
        for _ in range(3):
            assert types.types(*SERVICE, "add", 2) == ["long", "long"]
            await settled()
        registry.away = False
        registry.methods = (Method(name="add", parameter_types=("int", "int")),)
        types.types(*SERVICE, "add", 2)
        await settled()
        assert types.types(*SERVICE, "add", 2) == ["int", "int"]
        assert len(registry.asked) == 5

    run(work)


def test_a_service_that_cannot_be_asked_for_is_not_the_end_of_asking() -> None:
    async def work(types: PublishedTypes, registry: Publishing) -> None:
        update(types, [listed(interface="com.example.Odd")])
        await settled()
        update(types, [listed(interface="com.example.Odd"), listed()])
        await settled()
        assert types.types(*SERVICE, "add", 2) == ["long", "long"]

    run(work)


def test_a_registry_without_signatures_is_never_asked() -> None:
    async def main() -> None:
        registry = MemoryRegistry("published")
        types = PublishedTypes(asyncio.get_running_loop(), registry)
        update(types, [listed()])
        await settled()
        assert types.types(*SERVICE, "add", 2) is None
        await types.close()
        await registry.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"args": [1, 2.50]}', ["long", "double"]),
        (b'{"types": null, "args": [1, 2.50]}', ["long", "double"]),
        (b'{"types": ["int", "float"], "args": [1, 2.50]}', ["int", "float"]),
        (b'{"args": [1]}', None),
        (b'{"args": []}', None),
    ],
)
def test_a_call_without_types_gets_those_published(body: bytes, sent: list[str] | None) -> None:
    def known(
        interface: str, group: str, version: str, method: str, count: int
    ) -> Signature | None:
        assert (interface, group, version, method) == (*SERVICE, "add")
        return Signature(["long", "double"], {}) if count == 2 else None

    payload = b"".join(json_call(b"/com.example.Sums/add", b"blue", b"1.0", body, known)[3])
    names, _, call = payload.rpartition(b"\0")
    assert names.split(b"\0") == [b"com.example.Sums", b"add", b"blue", b"1.0"]
    assert json.loads(call).get("types") == sent
    # What the caller wrote stays as it was, digit by digit.
    assert b"2.50" in call or b"2.50" not in body


def test_a_call_with_objects_gets_the_types_of_their_fields() -> None:
    fields = {"a.Order": {"when": "java.time.Instant"}}

    def known(
        interface: str, group: str, version: str, method: str, count: int
    ) -> Signature | None:
        return Signature(["a.Order"], fields)

    for body in (b'{"args": [{"when": "x"}]}', b'{"types": ["a.Order"], "args": [{"when": "x"}]}'):
        payload = b"".join(json_call(b"/com.example.Sums/add", b"", b"", body, known)[3])
        call = json.loads(payload.rpartition(b"\0")[2])
        assert (call["types"], call["fields"]) == (["a.Order"], fields)
    body = b'{"types": ["int"], "args": [1]}'
    payload = b"".join(json_call(b"/com.example.Sums/add", b"", b"", body, known)[3])
    assert payload.endswith(body)


@pytest.mark.parametrize("types", [None, ["com.example.User"], ["com.example.Admin"]])
@pytest.mark.parametrize("fields", [{}, {"com.example.User": {"born": "java.util.Date"}}])
@pytest.mark.parametrize("typed", [False, True])
def test_a_call_that_is_added_to_says_what_a_call_that_is_read_says(
    types: list[str] | None, fields: dict[str, dict[str, str]], typed: bool
) -> None:
    known = Signature(types, fields)
    said = b'"types":["com.example.User"],' if typed else b""
    body = b' {%b"args":[{"a":"}"}],"oneway":true} \r\n' % said
    read = json_call(b"/com.example.Sums/add", b"", b"", body, lambda *_: known)[3]
    _, expected = b"".join(read).split(b"\0\0\0")
    added = known.added_to(body, typed=typed)
    assert json.loads(added) == json.loads(expected)
    assert added.count(b'"types"') <= 1
