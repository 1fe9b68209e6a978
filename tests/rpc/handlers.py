"""Small handlers that tests of clients and servers share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dragoman.errors import (
    DragomanError,
)

AT = "server:1"


async def echo(body: bytes) -> bytes:
    return body


async def slow_echo(body: bytes) -> bytes:
    await asyncio.sleep(0.5)
    return body


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class OddCode(DragomanError):
    def __init__(self, code: Any) -> None:
        super().__init__("odd")
        self.code = code


def raising(error: BaseException) -> Callable[[bytes], bytes]:
    def handler(body: bytes) -> bytes:
        raise error

    return handler
