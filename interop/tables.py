"""The matrix as tables: for a terminal, and in Markdown for ``docs/interop.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from interop.columns import AGENTS, BY_AGENTS, JAVA, SDK, Column, Results
from interop.results import Result

# Rows of the values' table: a name, and the beginnings of the names of its cases.
ROWS = {
    "boolean, byte, short, char": ("boolean", "byte -", "short", "char "),
    "int, long": ("int -", "int 0", "int 2", "int 4", "long "),
    "float, double": ("float", "double "),
    "boxes": (*("Boolean", "Byte", "Short", "Character", "Integer", "Long", "Float", "Double"),),
    "String": ("String",),
    "BigDecimal, BigInteger": ("BigDecimal", "BigInteger"),
    "Date": ("Date",),
    "LocalDate, LocalDateTime": ("LocalDate",),
    "Optional": ("Optional",),
    "enum": ("enum",),
    "byte[]": ("byte[]",),
    "arrays": ("int[]", "long[]", "double[]", "bean[]"),
    "List, Set, Map": ("List", "Set", "Map"),
    "nested generics": ("nested",),
    "beans, inheritance": ("bean", "subclass", "chain", "cycle"),
    "Object": ("Object",),
    "zero arguments, void, null": ("zero", "void", "null result"),
    "overloads": ("overloaded",),
    "exceptions": ("declared exception", "RuntimeException", "exception"),
    "large reply": ("large reply",),
}
CAPTIONS = {
    AGENTS: "JSON over HTTP, by a consumer's and a provider's agent, to a Java provider",
    SDK: "SDK client, straight to a Java provider",
    BY_AGENTS: "SDK client, through a provider's agent, to a Java provider",
    JAVA: "Java consumer to an SDK service",
}
WORST = ("fail", "not offered", "as Java")


def row_of(case: str) -> str:
    """The row that a case belongs to: the longest beginning decides."""
    found = [
        (len(start), row)
        for row, starts in ROWS.items()
        for start in starts
        if case.startswith(start)
    ]
    return max(found)[1] if found else case


def summary(results: Iterable[Result]) -> str:
    """Several results in one cell."""
    cells = [each.cell for each in results]
    if not cells:
        return ""
    passes = cells.count("pass")
    if passes == len(cells):
        return "pass"
    rest = [f"{cells.count(kind)} {kind}" for kind in WORST if kind in cells]
    return rest[0].split(" ", 1)[1] if len(cells) == 1 else f"{passes} pass, {', '.join(rest)}"


def tables(columns: list[Column]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Caption, head and rows of each table."""
    for caller, caption in CAPTIONS.items():
        of_caller = [each for each in columns if each.caller == caller]
        if not of_caller:
            continue
        head = ["", *(each.name for each in of_caller)]
        rows = []
        for part in ("values", "call_styles", "scenarios"):
            rows += _rows(part, of_caller)
        yield caption, head, rows


def _rows(part: str, columns: list[Column]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for index, column in enumerate(columns):
        results: Results = getattr(column, part)
        groups: dict[str, list[Result]] = {}
        for name, result in results.items():
            groups.setdefault(row_of(name) if part == "values" else name, []).append(result)
        for row, group in groups.items():
            found.setdefault(row, ["not offered" if c.absent else "" for c in columns])
            found[row][index] = summary(group)
    order = list(ROWS) if part == "values" else list(found)
    return [[row, *found[row]] for row in order if row in found]


def notes(columns: list[Column]) -> Iterator[str]:
    """A line for everything that is not a pass: what, where, why."""
    for caller in CAPTIONS:
        said: dict[tuple[str, str, str], list[str]] = {}
        for column in columns:
            if column.caller != caller:
                continue
            if column.absent:
                said.setdefault(("all", "not offered", column.absent), []).append(column.name)
            for part in ("values", "call_styles", "scenarios"):
                for name, each in getattr(column, part).items():
                    if each.cell != "pass":
                        why = " ".join(each.why.split())[:160]
                        said.setdefault((name, each.cell, why), []).append(column.name)
        for (name, cell, why), where in said.items():
            yield f"{caller}; {name} ({', '.join(where)}): {cell}: {why}"


def markdown(columns: list[Column]) -> str:
    """All tables and notes."""
    out = []
    for caption, head, rows in tables(columns):
        out.append(f"### {caption}\n")
        out.append(f"| {' | '.join(head)} |")
        out.append(f"|{' --- |' * len(head)}")
        out += [f"| {' | '.join(row)} |" for row in rows]
        out.append("")
    seen = [
        f"- {column.caller}, {column.name}: {name}: {each.why}"
        for column in columns
        for name, each in column.scenarios.items()
        if each.cell == "pass" and each.why
    ]
    if seen:
        out += ["### What was seen under load\n", *seen, ""]
    out.append("### What is not a pass, and why\n")
    out += [f"- {_escaped(note)}" for note in notes(columns)]
    return "\n".join(out) + "\n"


def _escaped(text: str) -> str:
    for mark in ("\\", "|", "<", ">", "*", "_", "`", "["):
        text = text.replace(mark, f"\\{mark}")
    return text
