"""``dragoman call`` and ``dragoman services``: one call of a Dubbo method, and who serves what."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.cli.words import REGISTRIES
from dragoman.errors import JavaError, RegistryError, RemoteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dragoman.registry import Registration
    from dragoman.wire.java import Bean
    from dragoman.wire.java.from_json import JavaType

REGISTRY = "etcd://127.0.0.1:2379"

Registry = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="DRAGOMAN_REGISTRY",
        help=f"Where the providers are: {REGISTRIES}.",
    ),
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write it as JSON here, - for standard output."),
]
Timeout = Annotated[float, typer.Option(metavar="MS", min=1, help="How long it may take.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this family to ``app``."""
    app.command()(call)
    app.command()(services)


def call(
    interface: Annotated[str, typer.Argument(help="The Java interface, a.b.Hello.")],
    method: Annotated[str, typer.Argument(help="The method.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGS",
            help="Its arguments, as JSON or plain text. What is to be a String although it reads "
            "as JSON is quoted ('\"7\"'), or has its type named. Behind -- they may begin with -.",
            show_default=False,
        ),
    ] = None,
    *,
    types: Annotated[
        str | None,
        typer.Option(
            metavar="T,T",
            help="The parameters' Java types: int,java.lang.String,java.util.List<java.lang.Long>. "
            "Without them they are those that the providers publish, or else what the arguments "
            "look like.",
        ),
    ] = None,
    registry: Registry = REGISTRY,
    group: Annotated[str, typer.Option(metavar="TEXT", help="The service's group.")] = "",
    version: Annotated[str, typer.Option(metavar="TEXT", help="The service's version.")] = "",
    timeout: Timeout = 5000,
    attachment: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="An attachment of the call; may be repeated."),
    ] = None,
    generic: Annotated[
        bool | None,
        typer.Option(
            help="Call through $invoke; without --types the method is found by its name. By itself "
            "for arguments with classes of the provider's own, which then makes them: their enums "
            "and dates too.",
            show_default=False,
        ),
    ] = None,
    with_class: Annotated[
        bool, typer.Option("--class", help="Show the Java classes of objects.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Call a method of a Dubbo service and print its result as JSON.

    Exit code 1 when the call fails, 2 when it cannot be made.
    """
    import uvloop

    wanted = _Call(
        registry=registry,
        interface=interface,
        method=method,
        texts=arguments or [],
        types=_split(types) if types is not None else None,
        group=group,
        version=version,
        timeout_ms=timeout,
        attachments=dict(_attachment(each) for each in attachment or ()),
        generic=generic,
        with_class=with_class,
    )
    # What is wrong is found before anything is connected.
    wanted.values(wanted.types)
    logging.getLogger("dragoman").addHandler(logging.NullHandler())
    try:
        value, attached, took_ms = uvloop.run(wanted.made())
    except JavaError as error:
        raise RemoteError(f"{error.java_class}: {error}") from None
    text = _json_of(value, with_class=with_class)
    if json_file is None:
        print(text)
        return
    whole = {"result": json.loads(text), "attachments": attached, "ms": round(took_ms, 3)}
    _write(json_file, json.dumps(whole, ensure_ascii=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call as the options say it. ``types`` is None where they are to be found."""

    registry: str
    interface: str
    method: str
    texts: list[str]
    types: list[str] | None
    group: str
    version: str
    timeout_ms: float
    attachments: dict[str, str]
    generic: bool | None
    with_class: bool

    def values(self, types: list[str] | None) -> tuple[bool, list[Any]]:
        """Whether to call through $invoke, and the arguments; raises UsageError."""
        return _values(self.texts, types, generic=self.generic)

    async def made(self) -> tuple[Any, dict[str, str], float]:
        """Make the call: its result, what came attached, and the milliseconds that it took."""
        from dragoman import dubbo
        from dragoman.registry.methods import types_of

        ends = time.monotonic() + self.timeout_ms / 1000

        def left_ms() -> float:
            """The time that is left for all that this command does."""
            return max(1.0, (ends - time.monotonic()) * 1000)

        async with dubbo.Client(self.registry) as client:
            types = self.types
            if types is None and not self.generic:
                found = client.service(self.interface, group=self.group, version=self.version)
                published = await client.methods(found, timeout_ms=left_ms())
                types = types_of(published, self.method, len(self.texts))
            invoke, given = self.values(types)
            service = client.service(
                self.interface,
                group=self.group,
                version=self.version,
                timeout_ms=left_ms(),
                attachments=self.attachments,
                generic=invoke,
            )
            began = time.perf_counter()
            result = await dubbo.invoke(service.method(self.method, types), *given)
            took_ms = (time.perf_counter() - began) * 1000
            plain = invoke and not self.with_class
            value = _without_class(result.value) if plain else result.value
            return value, result.attachments, took_ms


def services(
    pattern: Annotated[
        str, typer.Argument(metavar="TEXT", help="Only interfaces whose name has this in it.")
    ] = "",
    *,
    registry: Registry = REGISTRY,
    timeout: Timeout = 5000,
    json_file: Json = None,
) -> None:
    """List the services of a registry, and who serves them."""
    import asyncio

    import uvloop

    from dragoman.registry import open_registry

    logging.getLogger("dragoman").addHandler(logging.NullHandler())

    async def main() -> dict[str, list[Registration]]:
        opened = open_registry(registry)
        try:
            async with asyncio.timeout(timeout / 1000):
                return await opened.services()
        except TimeoutError:
            raise RegistryError(f"no answer from {opened.location} within {timeout:g} ms") from None
        finally:
            await opened.close()

    listed = [
        registration
        for interface, found in sorted(uvloop.run(main()).items())
        if pattern in interface
        for registration in found
    ]
    if json_file is not None:
        _write(json_file, json.dumps([each.plain() for each in listed]))
        return
    _print_table(listed)


def _print_table(listed: list[Registration]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("interface", "endpoint", "version", "group", "protocol", "serialization"):
        table.add_column(name, no_wrap=True)
    for name in ("weight", "limit"):
        table.add_column(name, justify="right")
    for each in listed:
        cells = (each.interface, each.address, each.version, each.group, each.protocol)
        table.add_row(*cells, each.serialization, str(each.weight), str(each.limit))
    console = Console(width=None if sys.stdout.isatty() else 240, soft_wrap=True)
    console.print(table)
    if not listed:
        print("no services", file=sys.stderr)


def _split(text: str) -> list[str]:
    """Types with commas between, but for those within angle brackets."""
    parts: list[str] = []
    depth = 0
    start = 0
    for at, character in enumerate(text):
        depth += (character == "<") - (character == ">")
        if character == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*parts, last] if last or parts else []


def _values(
    texts: list[str], types: list[str] | None, *, generic: bool | None
) -> tuple[bool, list[Any]]:
    """Whether to call through $invoke, and the arguments as Java's values; raises UsageError.

    Of classes that are not the JDK's only the provider knows the fields' types, so it makes the
    objects, unless ``generic`` says otherwise.
    """
    from dragoman.wire.java.from_json import java_type

    if types is not None and len(types) != len(texts):
        raise UsageError(f"{len(types)} types for {len(texts)} arguments")
    kinds = None if types is None else [java_type(each) for each in types]
    parsed = [_parsed(text) for text in texts]
    if generic is None:
        own = _names_class(parsed) if kinds is None else not all(each.is_jdk for each in kinds)
        return own, _made(texts, kinds, beans=not own)
    return generic, _made(texts, kinds, beans=not generic)


def _made(texts: list[str], kinds: list[JavaType] | None, *, beans: bool) -> list[Any]:
    from dragoman.wire.java.from_json import fit, natural

    values = []
    for index, text in enumerate(texts):
        try:
            if kinds is None:
                values.append(natural(_parsed(text), beans=beans))
                continue
            kind = kinds[index]
            textual = kind.name in ("java.lang.String", "java.lang.CharSequence", "char")
            plain = textual and not kind.dimensions and not text.startswith('"') and text != "null"
            values.append(fit(text if plain else _parsed(text), kind, beans=beans))
        except UsageError as error:
            raise UsageError(f"argument {index + 1}: {error}") from None
    return values


def _names_class(value: Any) -> bool:
    """Whether some object in it has a member ``class``."""
    if isinstance(value, dict):
        return isinstance(value.get("class"), str) or _names_class(list(value.values()))
    return isinstance(value, list) and any(_names_class(each) for each in value)


def _without_class(value: Any) -> Any:
    """A result of a generic call without the classes of what were beans."""
    if isinstance(value, dict):
        return {
            key: _without_class(each)
            for key, each in value.items()
            if not (key == "class" and isinstance(each, str))
        }
    return [_without_class(each) for each in value] if isinstance(value, list) else value


def _parsed(text: str) -> Any:
    """An argument as JSON if it reads as such, else as the text that it is."""
    from dragoman.wire.java.from_json import read_json

    try:
        return read_json(text.encode("utf-8", "surrogateescape"))
    except UsageError:
        return text


def _attachment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise UsageError(f"--attachment {text!r}: expected NAME=VALUE")
    return name, value


def _json_of(value: Any, *, with_class: bool) -> str:
    from dragoman.wire.hessian2 import encode, to_json

    # What fastjson2 has said to be no enum's constant is none.
    enums = {each.java_class for each in _named(value) if each.constant is not False}
    return to_json(encode(value), with_class=with_class, enums=enums).decode()


def _named(value: Any) -> Iterator[Bean]:
    """The beans of the one field ``name`` in a value, which may contain itself."""
    from dragoman.wire.java import Bean

    seen: set[int] = set()
    left = [value]
    while left:
        each = left.pop()
        if not isinstance(each, dict | list | tuple) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Bean) and each.keys() == {"name"}:
            yield each
        left += each
        if isinstance(each, dict):
            left += each.values()


def _write(file: str, text: str) -> None:
    if file == "-":
        print(text)
        return
    try:
        Path(file).write_text(text + "\n")
    except OSError as error:
        raise UsageError(f"--json {file}: {error.strerror}") from error
