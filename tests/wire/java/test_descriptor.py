"""Parameter descriptors: counted, checked, and made from Java's type names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import UsageError
from dragoman.wire.java.descriptor import count_parameters, descriptor_of, java_name


@pytest.mark.parametrize(
    ("descriptor", "count"),
    [
        (b"", 0),
        (b"I", 1),
        (b"ZBCSIJFD", 8),
        (b"[[I", 1),
        (b"Ljava/lang/String;", 1),
        (b"Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;", 3),
        (b"La;", 1),
        (b"La$b_1;J", 2),
        ("Lcom/é/Bean;".encode(), 1),
        (b"I" * 255, 255),
        (b"[" * 255 + b"I", 1),
    ],
)
def test_parameters_are_counted(descriptor: bytes, count: int) -> None:
    assert count_parameters(descriptor) == count


@pytest.mark.parametrize(
    "descriptor",
    [
        b"V",
        b"X",
        b"[",
        b"L",
        b"L;",
        b"Ljava",
        b"Ljava/;",
        b"L/java;",
        b"Ljava//lang;",
        b"Ljava.lang.String;",
        b"I I",
        b"I,I",
        b'L";',
        b"La\n;",
        b"La\\;",
        b"L[a;",
        b"La<b>;",
        b"(I)",
        b"I" * 256,
        b"[" * 256 + b"I",
        b"\x00",
        b"L\x00;",
        b";",
        b"i",
    ],
)
def test_a_malformed_descriptor_is_refused(descriptor: bytes) -> None:
    with pytest.raises(UsageError, match="no parameter descriptor"):
        count_parameters(descriptor)


@pytest.mark.parametrize(
    ("types", "descriptor"),
    [
        ([], ""),
        (["java.lang.String"], "Ljava/lang/String;"),
        (["boolean", "byte", "char", "short", "int", "long", "float", "double"], "ZBCSIJFD"),
        (["int[]", "int[][]", "int []"], "[I[[I[I"),
        (["com.x.Bean[]"], "[Lcom/x/Bean;"),
        (["java.util.List<java.lang.String>"], "Ljava/util/List;"),
        (["java.util.Map<java.lang.String, java.util.List<int[]>>[]"], "[Ljava/util/Map;"),
        (["java.util.List<? extends a.B>"], "Ljava/util/List;"),
        (["a.B..."], "[La/B;"),
        (
            ["[Ljava.lang.String;", "[I", "Ljava/lang/String;"],
            "[Ljava/lang/String;[ILjava/lang/String;",
        ),
        (["a.Outer$Inner"], "La/Outer$Inner;"),
        (["String", "Object[]"], "Ljava/lang/String;[Ljava/lang/Object;"),
        ([" int "], "I"),
    ],
)
def test_type_names_make_a_descriptor(types: list[str], descriptor: str) -> None:
    assert descriptor_of(types) == descriptor
    assert descriptor_of(types) == descriptor  # remembered
    assert count_parameters(descriptor.encode()) == len(types)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "void",
        "int]",
        "int[",
        "[]",
        "a..B",
        ".a",
        "a.",
        "a/b",
        "a b",
        "List<",
        "List>",
        "<a>",
        "a<b>c<d>",
        "a<b>>",
        'a"b',
        "a\nb",
        "a;b",
        "II;",
        "\ud800",
        "a<b>c",
        "...",
        "int[1]",
    ],
)
def test_what_is_no_type_is_named(name: str) -> None:
    with pytest.raises(UsageError, match="no Java type"):
        descriptor_of([name])


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 255"):
        descriptor_of(["int"] * 256)


def test_a_type_that_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="must be text"):
        descriptor_of([1])  # type: ignore[list-item]


@given(st.text(max_size=20))
def test_any_text_is_one_type_or_refused(name: str) -> None:
    try:
        descriptor = descriptor_of([name])
    except UsageError:
        return
    assert count_parameters(descriptor.encode()) == 1


@pytest.mark.parametrize(
    ("descriptor", "name"),
    [
        ("I", "int"),
        ("[[J", "long[][]"),
        ("Ljava/lang/String;", "java.lang.String"),
        ("[La/B$C;", "a.B$C[]"),
    ],
)
def test_a_descriptor_has_a_name_in_javas_source(descriptor: str, name: str) -> None:
    assert java_name(descriptor) == name
    assert descriptor_of([name]) == descriptor


@pytest.mark.parametrize("descriptor", ["", "II", "V", "Lx"])
def test_only_one_type_has_a_name(descriptor: str) -> None:
    with pytest.raises(UsageError):
        java_name(descriptor)
