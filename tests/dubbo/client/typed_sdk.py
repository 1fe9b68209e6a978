"""What type checkers are to see of the SDK: checked by ``mypy --strict``, never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, assert_type

from dragoman import dubbo
from dragoman.dubbo.types import java


@dubbo.bean("com.example.User")
@dataclass
class User:
    name: str
    age: java.long = 0


@dubbo.service("com.example.Users")
class Users(Protocol):
    async def find(self, name: str, age: java.Long | None = None) -> User | None: ...


@dubbo.service("com.example.Users")
class BlockingUsers(Protocol):
    def find(self, name: str) -> User | None: ...


async def calls() -> None:
    async with dubbo.Client("dubbo://127.0.0.1:20880") as client:
        users = client.service(Users, timeout_ms=50)
        assert_type(users, Users)
        assert_type(await users.find("Ann", 7), User | None)
        assert_type(await dubbo.with_options(users, attachments={"a": "b"}).find("x"), User | None)
        result = await dubbo.invoke(users.find, "Ann")
        assert_type(result, dubbo.Result[User | None])
        assert_type(await dubbo.send(users.find, "Ann"), None)
        assert_type(client.service("com.example.Users"), dubbo.Reference)
        await users.find(3)  # type: ignore[arg-type]
        await dubbo.invoke(users.find, 3)  # type: ignore[call-overload]
    async with await dubbo.serve([object()], 0, limit=3) as server:
        assert_type(server, dubbo.Server)


def blocking_calls() -> None:
    with dubbo.connect_sync("dubbo://127.0.0.1:20880") as client:
        users = client.service(BlockingUsers)
        assert_type(users.find("Ann"), User | None)
        assert_type(dubbo.invoke(users.find, "Ann"), dubbo.Result[User | None])
