"""A service with every kind of method, served to a foreign consumer."""

from __future__ import annotations

import asyncio
import enum
import threading
from dataclasses import dataclass
from typing import Any

from dragoman import dubbo
from dragoman.dubbo.types import java
from tests.dubbo.peer import invocation, peer

HELLO = "com.example.Hello"


STRING = "Ljava/lang/String;"


OBJECT = "Ljava/lang/Object;"


GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"


@dubbo.bean("com.example.Color")
class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dubbo.bean("com.example.User")
@dataclass
class User:
    name: str
    age: java.long = 0
    favourite: Color | None = None


@dubbo.bean("com.example.Node")
@dataclass
class Node:
    next: Node | None


class NoSuchUser(dubbo.JavaError):
    java_class = "com.example.NoSuchUserException"


@dubbo.service(HELLO)
class Hello:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.door = asyncio.Event()
        self.done: list[str] = []

    async def hash(self, text: str) -> int:
        return len(text)

    def add(self, a: int, b: int) -> java.long:
        return a + b

    @dubbo.method("add")
    def add_text(self, a: str, b: str) -> str:
        return a + b

    async def older(self, user: User, years: int = 1) -> User:
        return User(user.name, user.age + years, user.favourite)

    async def paint(self, color: Color) -> list[Color]:
        return [color, Color.BLUE]

    async def length(self, node: Node) -> int:
        return 1 if node.next is None else 1 + await self.length(node.next)

    async def anything(self, value) -> Any:  # type: ignore[no-untyped-def]
        return value

    async def nothing(self) -> None:
        return None

    async def fail(self, text: str) -> None:
        raise ValueError(text)

    async def missing(self, name: str) -> User:
        raise NoSuchUser(f"no {name}", fields={"name": name})

    async def busy(self) -> None:
        raise dubbo.OverloadError("come back later")

    async def attached(self) -> str:
        request = dubbo.current_request()
        request.reply_attachments["trace"] = "reply-" + request.attachments.get("trace", "")
        return f"{request.interface} {request.method} {request.timeout_ms is not None}"

    def attached_in_thread(self) -> str:
        return dubbo.current_request().attachments["trace"]

    async def wait(self, text: str) -> str:
        await self.door.wait()
        self.done.append(text)
        return text

    def block(self, text: str) -> str:
        self.gate.wait(10)
        self.done.append(text)
        return text

    async def huge(self) -> str:
        return "x" * 9_000_000

    async def wrong(self) -> int:
        return "no number"  # type: ignore[return-value]


def call(method: str, *args: Any, types: str = "", **options: Any) -> bytes:
    return invocation(HELLO, method, *args, types=types, **options)


def run(test: Any, **options: Any) -> Hello:
    """Run ``test(peer, service, server)`` against a server; every place is free at its end."""

    async def main() -> Hello:
        service = Hello()
        async with await dubbo.serve(service, 0, **options) as server:
            async with peer(server.address) as consumer:
                await test(consumer, service, server)
            service.gate.set()
            service.door.set()
            async with asyncio.timeout(30):
                while server.statistics().in_progress:
                    await asyncio.sleep(0.001)
        return service

    return asyncio.run(main())
