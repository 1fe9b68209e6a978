"""Described values (``tests/conformance/dubbo/README.md``) as the SDK's Python values, and Python
values compared with what is described.

Used by the matrix. The invariant: a comparison looks at Python's types too (1 is not True),
but not at which kind of list or map it was in Java, which the SDK does not keep.
"""

from __future__ import annotations

import datetime
import struct
from decimal import Decimal
from typing import Any

from dragoman import dubbo
from interop.values import Described

UTC = datetime.UTC
ARRAYS = {
    "int": "[int",
    "long": "[long",
    "double": "[double",
    "java.lang.String": "[string",
    "java.lang.Object": "[object",
}


def to_python(value: Described, *, typed: bool = False) -> Any:
    """What to give the SDK. ``typed``: Java's types cannot be told from a declaration (Object)."""
    return _Maker(typed).make(value)


class _Maker:
    def __init__(self, typed: bool) -> None:
        self._typed = typed
        self._beans: list[dubbo.Bean] = []

    def make(self, value: Described) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        kind, content = next(iter(value.items()))
        if kind in ("byte", "short", "int"):
            return content
        if kind == "long":
            return dubbo.Long(content)
        if kind in ("float", "double"):
            return dubbo.Double(content)
        if kind == "bytes":
            return bytes.fromhex(content)
        if kind == "bean":
            return self._bean(value)
        if kind in ("array", "list", "set"):
            return self._list(kind, content, [self.make(each) for each in value["items"]])
        if kind == "map":
            entries = [(self.make(key), self.make(each)) for key, each in value["entries"]]
            plain = not self._typed or content == "java.util.HashMap"
            return dict(entries) if plain else dubbo.TypedMap(content, entries)
        makers = {
            "decimal": lambda: Decimal(content),
            "integer": lambda: dubbo.BigInteger(content),
            "char": lambda: content,
            "date_ms": lambda: _date(content),
            "enum": lambda: dubbo.enum(content, value["name"]),
            "ref": lambda: self._beans[content],
            "other": lambda: _other(content, value["text"]),
        }
        return makers[kind]()

    def _bean(self, value: Described) -> dubbo.Bean:
        bean = dubbo.Bean(value["bean"])
        self._beans.append(bean)
        for key, each in value["fields"].items():
            bean[key] = self.make(each)
        return bean

    def _list(self, kind: str, java_class: str, items: list[Any]) -> Any:
        if kind == "array" and self._typed:
            return dubbo.TypedList(ARRAYS.get(java_class, f"[{java_class}"), items)
        if kind == "list" or not self._typed:
            return set(items) if kind == "set" else items
        return dubbo.TypedList(java_class, items)


def _date(ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(0, UTC) + datetime.timedelta(milliseconds=ms)


def _other(java_class: str, text: str) -> Any:
    if java_class == "java.time.LocalDate":
        return datetime.date.fromisoformat(text)
    if java_class == "java.time.LocalDateTime":
        return datetime.datetime.fromisoformat(text)
    return dubbo.Bean(java_class, value=text.removeprefix("Optional[").removesuffix("]"))


def differs(want: Described, got: Any, *, declared: bool = False) -> str | None:
    """How a value that the SDK gave differs from what is described, or None.

    ``declared``: what Java's declarations say may be left to them, as fastjson2 does: the class of
    a bean within another, its nulls and zeros, and its enums' names (it has their ordinals).
    """
    made = to_python(want)
    if not isinstance(want, dict) or "float" not in want:
        return None if _Comparison(declared).same(made, got) else f"value: {_short(got)}"
    same = isinstance(got, float) and struct.pack("f", got) == struct.pack("f", made)
    return None if same else f"value: {got!r}"


COLORS = ["RED", "GREEN", "BLUE"]
_KINDS = (int, float, str, bytes, Decimal, datetime.datetime, datetime.date)


class _Comparison:
    def __init__(self, declared: bool) -> None:
        self._declared = declared
        self._seen: set[int] = set()

    def same(self, want: Any, got: Any, *, within: bool = False) -> bool:
        """Whether they are; ``within`` a bean, and so of a declared type."""
        if id(want) in self._seen:
            return True
        if isinstance(want, dubbo.Bean):
            return self._same_bean(want, got, within)
        if isinstance(want, dict):
            return (
                isinstance(got, dict)
                and got.keys() == want.keys()
                and all(self.same(want[key], got[key], within=within) for key in want)
            )
        if isinstance(want, set):
            return isinstance(got, list | set) and len(got) == len(want) and set(got) == want
        if isinstance(want, list):
            return (
                isinstance(got, list)
                and len(got) == len(want)
                and all(self.same(*pair, within=within) for pair in zip(want, got, strict=True))
            )
        if isinstance(want, bool) or want is None:
            return got is want
        kind = next((kind for kind in _KINDS if isinstance(want, kind)), None)
        if kind is None:
            return bool(got == want)
        if isinstance(got, bool) or not isinstance(got, kind):
            return False
        return str(got) == str(want) if kind in (float, Decimal) else bool(got == want)

    def _same_bean(self, want: dubbo.Bean, got: Any, within: bool) -> bool:
        self._seen.add(id(want))
        if self._declared and want.java_class == "java.util.Optional":
            return self.same(want["value"], got)
        loose = within and self._declared
        if loose and want.keys() == {"name"} and isinstance(got, int):
            return COLORS.index(want["name"]) == got
        if not isinstance(got, dict if loose else dubbo.Bean) or (
            getattr(got, "java_class", want.java_class) != want.java_class
        ):
            return False
        if self._declared:
            got = {key: got.get(key) for key in want.keys() | got.keys()}
        return got.keys() == want.keys() and all(
            (self._declared and got[key] is None and not each)
            or self.same(each, got[key], within=True)
            for key, each in want.items()
        )


def _short(got: Any) -> str:
    text = repr(got)
    return text if len(text) <= 80 else f"{text[:77]}..."
