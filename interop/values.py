"""Described values (``tests/conformance/dubbo/README.md``) as JSON of the HTTP contract, and JSON
compared with what is described.

Used by the matrix. The invariant: a comparison is strict where JSON can say the difference (numbers
exactly, no key too many), and raises ``CannotSay`` where it cannot.
"""

from __future__ import annotations

import base64
import datetime
import json
import struct
from decimal import Decimal
from typing import Any

INTEGRAL = ("byte", "short", "int")
Described = Any


class CannotSay(Exception):
    """JSON has no way to write this."""


def to_json(value: Described, declared: str = "") -> str:
    """The JSON text of a described value; a bean that is not of the declared class says its own."""
    if value is None or isinstance(value, bool | str):
        return json.dumps(value)
    kind, content = next(iter(value.items()))
    if kind in INTEGRAL:
        return str(content)
    if kind in ("long", "decimal", "integer"):
        return str(content)
    if kind in ("float", "double"):
        if isinstance(content, str):
            raise CannotSay(f"JSON has no {content}")
        return repr(content)
    if kind == "date_ms":
        return str(content)
    if kind == "bytes":
        return json.dumps(base64.b64encode(bytes.fromhex(content)).decode())
    if kind in ("array", "list", "set"):
        return f"[{', '.join(map(to_json, value['items']))}]"
    if kind == "map":
        members = [f"{_key(key)}: {to_json(each)}" for key, each in value["entries"]]
        return f"{{{', '.join(members)}}}"
    if kind == "bean":
        members = [f"{json.dumps(key)}: {to_json(each)}" for key, each in value["fields"].items()]
        if declared not in ("", content, "java.lang.Object"):
            members.append(f'"class": {json.dumps(content)}')
        return f"{{{', '.join(members)}}}"
    if kind in ("char", "enum", "other"):
        return json.dumps({"char": content, "enum": value.get("name")}.get(kind, value.get("text")))
    raise CannotSay("JSON has no references" if kind == "ref" else f"JSON has no {kind}")


def _key(value: Described) -> str:
    text = to_json(value)
    return text if text.startswith('"') else json.dumps(text)


def parse(text: str | bytes) -> Any:
    """JSON, with the digits of numbers kept."""
    return json.loads(text, parse_float=Decimal)


def differs(value: Described, got: Any, at: str = "") -> str | None:
    """How JSON ``got`` (from ``parse``) differs from what is described, or None."""
    if value is None or isinstance(value, bool | str):
        same = type(got) is type(value) and got == value
        return None if same else f"{at or 'value'}: {_short(got)}"
    kind, content = next(iter(value.items()))
    if kind in ("array", "list", "set"):
        return _differs_list(kind, value["items"], got, at)
    if kind == "map":
        want = {json.loads(_key(key)): each for key, each in value["entries"]}
        return _differs_members(want, got, at, nulls=True)
    if kind == "bean":
        return _differs_members(value["fields"], got, at, nulls=False)
    if kind == "ref":
        raise CannotSay("JSON has no references")
    checks = {
        "long": lambda: _is_int(got, int(content)),
        "decimal": lambda: Decimal(str(got)) == Decimal(content) and not isinstance(got, bool),
        "integer": lambda: Decimal(str(got)) == Decimal(content) and not isinstance(got, bool),
        "float": lambda: _is_float(got, content, "f"),
        "double": lambda: _is_float(got, content, "d"),
        "char": lambda: got == content,
        "enum": lambda: got == value["name"],
        "date_ms": lambda: _is_date(got, content),
        "bytes": lambda: _is_bytes(got, bytes.fromhex(content)),
        "other": lambda: got == value["text"],
    }
    try:
        check = checks.get(kind, lambda: _is_int(got, content))
        return None if check() else f"{at or 'value'}: {_short(got)}"
    except (ValueError, TypeError, ArithmeticError):
        return f"{at or 'value'}: {_short(got)}"


def _differs_list(kind: str, items: list[Described], got: Any, at: str) -> str | None:
    if not isinstance(got, list) or len(got) != len(items):
        return f"{at or 'value'}: {_short(got)}"
    left = list(got)
    for i, item in enumerate(items):
        if kind == "set":
            found = [each for each in left if differs(item, each) is None]
            if not found:
                return f"{at}[{i}] is missing"
            left.remove(found[0])
        elif why := differs(item, got[i], f"{at}[{i}]"):
            return why
    return None


def _differs_members(want: dict[str, Described], got: Any, at: str, *, nulls: bool) -> str | None:
    if not isinstance(got, dict):
        return f"{at or 'value'}: {_short(got)}"
    for key in got.keys() - want.keys():
        return f"{at}.{key} is too many"
    for key, each in want.items():
        if key not in got:
            # A bean's field that is null may be left out; a map's entry may not.
            if each is None and not nulls:
                continue
            return f"{at}.{key} is missing"
        if why := differs(each, got[key], f"{at}.{key}"):
            return why
    return None


def _is_int(got: Any, want: int) -> bool:
    return isinstance(got, int) and not isinstance(got, bool) and got == want


def _is_float(got: Any, want: float | str, code: str) -> bool:
    if isinstance(want, str) or isinstance(got, str):
        return str(got) == str(want)
    if isinstance(got, bool):
        return False
    return struct.pack(code, float(got)) == struct.pack(code, want)


def _is_date(got: Any, want: int) -> bool:
    if isinstance(got, str):
        moment = datetime.datetime.fromisoformat(got)
        return moment.tzinfo is not None and round(moment.timestamp() * 1000) == want
    return _is_int(got, want)


def _is_bytes(got: Any, want: bytes) -> bool:
    if isinstance(got, list):
        return bytes(each & 255 for each in got) == want
    return base64.b64decode(got, validate=True) == want


def _short(got: Any) -> str:
    text = json.dumps(got, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
