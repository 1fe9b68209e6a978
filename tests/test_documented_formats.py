"""``docs/formats`` says what the code does: the tables and examples are read and compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dragoman.errors import Code, ProtocolError
from dragoman.wire.mesh import KINDS, MeshDecoder, encode

MESH = (Path(__file__).parent.parent / "docs" / "formats" / "mesh.md").read_text()


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``header``."""
    table = MESH[MESH.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


FRAMES = {row[1]: row for row in rows("| type | name | from |")}


def test_every_frame_type_is_listed_with_its_number() -> None:
    assert {name: int(row[0]) for name, row in FRAMES.items()} == KINDS


def test_every_error_code_is_listed_with_its_number() -> None:
    listed = {row[1]: int(row[0]) for row in rows("| code | name | meaning |")}
    assert listed == {code.name: code.value for code in Code}


@pytest.mark.parametrize("name", KINDS)
def test_the_fields_of_each_type_are_as_the_table_says(name: str) -> None:
    _, _, _, flags, target, id, value, body = FRAMES[name]
    number = re.match(r"([\d,]+)", body)
    least = int(number[1].replace(",", "")) if number else 0
    if "1 to" in body:
        least = 1
    good = {
        "target": int(target != "-"),
        "id": int(id != "-"),
        "value": int(value != "-"),
    }

    def accepted(**changed: int) -> bool:
        try:
            MeshDecoder().frames(encode(KINDS[name], body=bytes(least), **{**good, **changed}))
        except ProtocolError:
            return False
        return True

    assert accepted()
    for field, cell in (("target", target), ("id", id), ("value", value)):
        assert accepted(**{field: 1}) == (cell != "-")
        assert accepted(**{field: 0}) == ("not 0" not in cell)
    assert accepted(flags=1) == ("bit 0" in flags)
    assert not accepted(flags=2)


def test_the_example_in_bytes_is_right() -> None:
    example = MESH[MESH.index("One REQUEST in bytes") :].split("```")[1].strip().splitlines()[0]
    assert encode(KINDS["REQUEST"], target=1, id=2, value=5000, body=b"hi") == bytes.fromhex(
        example
    )
