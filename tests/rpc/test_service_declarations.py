"""What cannot be served is refused when it is declared, or given to a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from dragoman import rpc
from tests.rpc.typed_services import Accounts, Boom, rpc_functions, served


def declare(**methods: Any) -> Callable[[], Any]:
    return lambda: rpc.service(type("Bad", (), methods))


def unannotated(self: Any, a) -> int:  # type: ignore[no-untyped-def]
    return 1


def no_result(self: Any, a: int):  # type: ignore[no-untyped-def]
    return 1


def any_number(self: Any, *args: int) -> int:
    return 1


def any_name(self: Any, **args: int) -> int:
    return 1


def strange(self: Any, when: Boom) -> int:
    return 1


def strange_within(self: Any, when: dict[str, list[Boom | None]]) -> int:
    return 1


def strange_result(self: Any) -> Callable[[], int]:
    return lambda: 1


def ambiguous(self: Any, a: list[int] | set[int]) -> int:
    return 1


def generator(self: Any) -> list[int]:
    yield 1  # type: ignore[misc]


async def streaming(self: Any) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (declare(f=unannotated), "Bad.f: parameter 'a' has no annotation"),
        (declare(f=no_result), "Bad.f: the result has no annotation"),
        (declare(f=any_number), "Bad.f: parameter *args: 'int' takes any number of arguments"),
        (declare(f=any_name), "Bad.f: parameter **args: 'int' takes any number of arguments"),
        (declare(f=strange), "Bad.f: parameter 'when': Boom cannot travel"),
        (declare(f=strange_within), "Bad.f: parameter 'when': Boom cannot travel"),
        (declare(f=strange_result), "Bad.f: result: Callable cannot travel"),
        (declare(f=ambiguous), "Bad.f: parameter 'a': Type unions may not contain more than one"),
        (declare(f=generator), "Bad.f: a generator cannot be served"),
        (declare(f=streaming), "Bad.f: a generator cannot be served"),
        (declare(with_options=strange), "Bad.with_options: the name is taken"),
        (declare(_f=strange), "Bad: a service without public methods"),
        (lambda: rpc.service(5), "service: expected a class or a name, not 5"),  # type: ignore[call-overload]
        (lambda: rpc.service(""), "service: expected a class or a name, not ''"),
        (lambda: rpc.service("x")(5), "service: expected a class, not 5"),  # type: ignore[type-var]
        (lambda: rpc.service(errors=[Boom]), "derived from RemoteError"),  # type: ignore[list-item]
        (lambda: rpc.service(errors=[rpc.RemoteError]), "has no code of its own"),
    ],
)
def test_what_cannot_be_served_is_said_when_it_is_declared(
    declaration: Callable[[], Any], message: str
) -> None:
    with pytest.raises(rpc.UsageError) as caught:
        made = declaration()
        if callable(made):
            made(Accounts)
    assert message in str(caught.value)


def test_annotations_may_name_what_is_defined_later() -> None:
    namespace: dict[str, Any] = {}
    source = """
from __future__ import annotations
from dragoman import rpc
import msgspec

@rpc.service
class Early:
    def f(self, a: Late) -> int:
        return a.x
"""
    exec(source, namespace)
    early = namespace["Early"]()
    with pytest.raises(rpc.UsageError, match="Early: an annotation: 'Late' is not defined"):
        rpc_functions(early)
    exec("class Late(msgspec.Struct):\n    x: int\n", namespace)
    assert rpc_functions(early)["Early.f"](b"\x91\x81\xa1x\x05") == b"\x05"


def test_handlers_that_are_no_services_are_refused() -> None:
    async def main() -> None:
        for handler, message in [
            (Accounts, "expected an object of Accounts, not the class"),
            (object(), "expected a mapping, a function, a service or a list of services"),
            ([Accounts(), Accounts()], "two methods named 'Accounts.balance'"),
            ([Accounts(), len], "expected services and mappings in the list"),
            ({"a": 5}, "expected names with functions, not 'a'"),
            ({5: len}, "expected names with functions, not 5"),
        ]:
            with pytest.raises(rpc.UsageError) as caught:
                await rpc.serve(handler, "127.0.0.1:0")
            assert message in str(caught.value)
        async with served(Accounts()) as client:
            with pytest.raises(rpc.UsageError, match="a service without public methods"):
                client.service(object)
            with pytest.raises(rpc.UsageError, match="expected a class that declares a service"):
                client.service(Accounts())  # type: ignore[arg-type]

    uvloop.run(main())
