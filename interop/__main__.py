"""``python -m interop [--only TEXT ...] [--quick] [--with FILE] [--json FILE] [--docs]``.

The interop matrix.

Builds the Java programs, runs every column, prints tables. ``--only`` takes parts of the names of
columns, such as ``SDK`` or ``2.7 hessian2``; ``--quick`` leaves out what takes long (timeouts, full
pools, shutdown, kill); ``--with`` takes what is not run from an earlier result; ``--docs``
writes the tables into ``docs/interop.md``, where they stand
between two marks. The exit code is 1 if something failed that Java does not lose itself.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dragoman.harness import machine
from interop import columns, peers, tables
from interop.java import JavaMissing, build, environment
from interop.programs import ROOT
from interop.results import Result

PAGE = ROOT / "docs" / "interop.md"
MARKS = ("<!-- matrix -->\n", "<!-- end of the matrix -->\n")


def main() -> int:
    """Run as a program."""
    options = _options()
    console = Console(emoji=False, highlight=False, stderr=True)
    try:
        build()
    except JavaMissing as missing:
        print(f"interop: nothing was run: {missing}", file=sys.stderr)
        return 1
    chosen = [each for each in columns.columns() if _is_chosen(each, options.only)]
    for column in chosen:
        columns.run(
            column, lambda text: console.print(f"interop: {text}"), scenarios=not options.quick
        )
    others = {} if options.quick or options.only else peers.run_all(console.print)
    if options.earlier:
        chosen, others = _with(json.loads(options.earlier.read_text()), chosen, others)
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": machine.machine(),
        "java": environment(),
        "releases": columns.VERSIONS,
        "columns": [column.to_dict() for column in chosen],
        "peers": {name: [each.cell, each.why] for name, each in others.items()},
    }
    _show(Console(emoji=False, highlight=False, width=150), chosen, others)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.docs:
        write_docs(report, chosen, others)
    failed = [
        result
        for column in chosen
        for part in (column.values, column.call_styles, column.scenarios)
        for result in part.values()
        if result.cell == "fail"
    ] + [each for each in others.values() if each.cell == "fail"]
    return 1 if failed else 0


def _with(
    earlier: dict[str, Any], chosen: list[columns.Column], others: dict[str, Any]
) -> tuple[list[columns.Column], dict[str, Any]]:
    """What was run now, and the rest of an earlier result, in the order of the columns."""
    found = {_name(each): each for each in map(columns.Column.from_dict, earlier["columns"])}
    found |= {_name(each): each for each in chosen}
    results = {name: Result(*each) for name, each in earlier["peers"].items()}
    order = [_name(each) for each in columns.columns()]
    return [found[name] for name in order if name in found], results | others


def _name(column: columns.Column) -> str:
    return f"{column.caller}, {column.name}"


def _is_chosen(column: columns.Column, only: list[str] | None) -> bool:
    return not only or any(text in _name(column) for text in only)


def _show(console: Console, chosen: list[columns.Column], others: dict[str, Any]) -> None:
    for caption, head, rows in tables.tables(chosen):
        table = Table(*head, title=caption, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for note in tables.notes(chosen):
        console.print(note, markup=False)
    for name, each in others.items():
        console.print(f"{name}: {each.cell}: {each.why}", markup=False)


def write_docs(
    report: dict[str, Any], chosen: list[columns.Column], others: dict[str, Any]
) -> None:
    """Put the tables between the page's marks."""
    text = PAGE.read_text()
    head, _, rest = text.partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    versions = ", ".join(f"Dubbo {each}" for each in report["releases"].values())
    made = f"Measured {report['date']} with {versions}; {report['java']}.\n\n"
    made += tables.markdown(chosen)
    if others:
        made += "\n### Other clients and servers\n\n| | | |\n| --- | --- | --- |\n"
        made += "".join(f"| {name} | {each.cell} | {each.why} |\n" for name, each in others.items())
    PAGE.write_text(head + MARKS[0] + "\n" + made + "\n" + MARKS[1] + tail)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m interop", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TEXT")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--with", type=Path, metavar="FILE", dest="earlier")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
