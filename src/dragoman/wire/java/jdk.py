"""The JDK's classes that hessian-lite writes as objects: what they are called and made of.

| class | fields |
| --- | --- |
| java.math.BigDecimal, java.util.UUID | ``value``: text |
| java.math.BigInteger | ``signum``, ``mag``: an array of ints, the most significant first |
| java.sql.Date, Time, Timestamp | ``value``: a date |
| java.time.X | class ``com.alibaba.com.caucho.hessian.io.java8.XHandle`` and its parts |
| java.util.Calendar, Locale, EnumSet | handles of hessian-lite |

``from_bean`` makes Python's values of them, ``to_bean`` writes such, ``bean_text`` makes JSON. The
invariant: the tables there are all there is; a class that is not in them stays a Bean, and fields
that do not fit leave the Bean as it is.
"""

from __future__ import annotations

import datetime
import re
from typing import Final

HANDLE: Final = "com.alibaba.com.caucho.hessian.io."
JAVA8: Final = HANDLE + "java8."
ENUM_SET: Final = HANDLE + "EnumSetHandler"
# What List.of, Set.of and Map.of are written as by their own wish: without their elements, which
# only Java's own serialization would add.
WITHOUT_ELEMENTS: Final = "java.util.CollSer"

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# The text of a java.math.BigDecimal as Java writes it: no NaN, no infinity, no underscores.
DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def offset_id(seconds: int) -> str:
    """An offset as Java's ZoneOffset.getId has it."""
    if seconds == 0:
        return "Z"
    minutes, rest = divmod(abs(seconds), 60)
    text = f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{rest:02}" if rest else text


def zone_id(zone: datetime.timezone) -> str:
    """The same of Python's zone."""
    return offset_id(int(zone.utcoffset(None).total_seconds()))
