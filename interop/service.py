"""``org.dragoman.interop.Types`` as the SDK serves it, for Java consumers.

``python -m interop.service PORT [REGISTRY]`` prints "ready PORT" when it serves, and ends on
SIGTERM.
"""

from __future__ import annotations

import asyncio
import datetime
import sys
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

from dragoman import dubbo
from dragoman.dubbo.types import java
from interop.java import LOOPBACK

TYPES = "org.dragoman.interop.Types"
PACKAGE = "org.dragoman.interop"


@dubbo.bean(f"{PACKAGE}.Color")
class Color(Enum):
    RED = "RED"
    GREEN = "GREEN"
    BLUE = "BLUE"


@dubbo.bean(f"{PACKAGE}.Line")
@dataclass
class Line:
    article: str | None = None
    count: java.int_ = 0
    price: Decimal | None = None


Lines = Annotated[list[Line], java.type_(f"{PACKAGE}.Line[]")]
Order = Annotated[Any, java.type_(f"{PACKAGE}.Order")]
Node = Annotated[Any, java.type_(f"{PACKAGE}.Node")]


class Refused(dubbo.JavaError):
    java_class = f"{PACKAGE}.RefusedException"


class Types:
    """Echoes give back what they got."""

    name = "/"

    async def primitiveBoolean(self, value: java.boolean) -> java.boolean:
        return value

    async def primitiveByte(self, value: java.byte) -> java.byte:
        return value

    async def primitiveShort(self, value: java.short) -> java.short:
        return value

    async def primitiveChar(self, value: java.char) -> java.char:
        return value

    async def primitiveInt(self, value: java.int_) -> java.int_:
        return value

    async def primitiveLong(self, value: java.long) -> java.long:
        return value

    async def primitiveFloat(self, value: java.float_) -> java.float_:
        return value

    async def primitiveDouble(self, value: java.double) -> java.double:
        return value

    async def boxedBoolean(self, value: java.Boolean | None) -> java.Boolean | None:
        return value

    async def boxedByte(self, value: java.Byte | None) -> java.Byte | None:
        return value

    async def boxedShort(self, value: java.Short | None) -> java.Short | None:
        return value

    async def boxedChar(self, value: java.Character | None) -> java.Character | None:
        return value

    async def boxedInt(self, value: java.Integer | None) -> java.Integer | None:
        return value

    async def boxedLong(self, value: java.Long | None) -> java.Long | None:
        return value

    async def boxedFloat(self, value: java.Float | None) -> java.Float | None:
        return value

    async def boxedDouble(self, value: java.Double | None) -> java.Double | None:
        return value

    async def text(self, value: str | None) -> str | None:
        return value

    async def decimal(self, value: Decimal) -> Decimal:
        return value

    async def integer(self, value: java.BigInteger) -> java.BigInteger:
        return value

    async def date(self, value: java.Date) -> java.Date:
        return value

    async def localDate(self, value: datetime.date) -> datetime.date:
        return value

    async def localDateTime(self, value: java.LocalDateTime) -> java.LocalDateTime:
        return value

    async def color(self, value: Color | None) -> Color | None:
        return value

    async def bytes(self, value: bytes | None) -> bytes | None:
        return value

    async def ints(
        self, value: Annotated[list[int], java.type_("int[]")]
    ) -> Annotated[list[int], java.type_("int[]")]:
        return value

    async def longs(
        self, value: Annotated[list[int], java.type_("long[]")]
    ) -> Annotated[list[int], java.type_("long[]")]:
        return value

    async def doubles(
        self, value: Annotated[list[float], java.type_("double[]")]
    ) -> Annotated[list[float], java.type_("double[]")]:
        return value

    async def texts(
        self, value: Annotated[list[str | None], java.type_("java.lang.String[]")]
    ) -> Annotated[list[str | None], java.type_("java.lang.String[]")]:
        return value

    async def lines(self, value: Lines) -> Lines:
        return value

    async def list(self, value: list[str | None]) -> list[str | None]:
        return value

    async def set(
        self, value: Annotated[list[str], java.type_("java.util.Set")]
    ) -> Annotated[list[str], java.type_("java.util.Set")]:
        return value

    async def map(self, value: dict[str, int | None]) -> dict[str, int | None]:
        return value

    async def longKeys(self, value: dict[java.long, str]) -> dict[java.long, str]:
        return value

    async def nested(self, value: dict[str, Any]) -> dict[str, Any]:
        return value

    async def orders(self, value: Annotated[Any, java.type_("java.util.List")]) -> Any:
        return value

    async def optional(
        self, value: Annotated[Any, java.type_("java.util.Optional")]
    ) -> Annotated[Any, java.type_("java.util.Optional")]:
        return value

    async def any(self, value: java.Object) -> java.Object:
        return value

    async def order(self, value: Order) -> Order:
        return value

    async def node(self, value: Node) -> Node:
        return value

    async def noArguments(self) -> str:
        return "no arguments"

    async def nothing(self, value: str) -> None:
        pass

    async def nullResult(self, value: str) -> str | None:
        return None

    @dubbo.method("overloaded")
    async def overloaded_int(self, value: java.int_) -> str:
        return f"int {value}"

    @dubbo.method("overloaded")
    async def overloaded_long(self, value: java.long) -> str:
        return f"long {value}"

    @dubbo.method("overloaded")
    async def overloaded_text(self, value: str) -> str:
        return f"String {value}"

    @dubbo.method("overloaded")
    async def overloaded_two(self, value: str, times: java.int_) -> str:
        return f"String {value} int {times}"

    async def refuse(self, why: str) -> str:
        raise Refused(why, fields={"code": 17})

    async def fail(self, why: str) -> str:
        raise dubbo.JavaError(why, java_class="java.lang.IllegalStateException")

    async def failWithCause(self, why: str) -> str:
        raise dubbo.JavaError(why, java_class=f"{PACKAGE}.BrokenException")

    async def sleep(self, ms: java.int_, value: str) -> str:
        await asyncio.sleep(ms / 1000)
        return value

    async def attachments(self) -> dict[str, str]:
        request = dubbo.current_request()
        request.reply_attachments["answered-by"] = self.name
        own = {"color", "shape"}
        return {key: value for key, value in request.attachments.items() if key in own}

    async def letters(self, size: java.int_) -> str:
        return ("abcdefghijklmnopqrstuvwxyz" * (size // 26 + 1))[:size]

    async def which(self) -> str:
        return self.name


Plain = dubbo.service(TYPES)(Types)


@dubbo.service(TYPES, group="blue", version="1.0.0")
class Blue(Types):
    name = "blue/1.0.0"


@dubbo.service(TYPES, group="green", version="2.0.0")
class Green(Types):
    name = "green/2.0.0"


def main() -> None:
    """Serve until SIGTERM."""
    registry = sys.argv[2] if len(sys.argv) > 2 else None
    dubbo.run(
        [Plain(), Blue(), Green()],
        int(sys.argv[1]),
        registry=registry,
        advertise=f"{LOOPBACK}:{sys.argv[1]}" if registry else None,
        ready=lambda server: print(f"ready {server.address.port}", flush=True),
    )


if __name__ == "__main__":
    main()
