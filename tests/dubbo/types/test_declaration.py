"""What classes and annotations say: what travels how, and what is refused where it is declared."""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Protocol, TypeVar, Union

import msgspec
import pytest

from dragoman import dubbo
from dragoman.dubbo.types import java
from dragoman.dubbo.types.declaration import Declaration
from dragoman.dubbo.types.mapping import mapping_of
from dragoman.dubbo.types.scalars import Misfit
from dragoman.wire import hessian2
from dragoman.wire.java import BigInteger, Double, Long, TypedList

T = TypeVar("T")


@dubbo.bean("com.example.Color")
class Color(enum.Enum):
    RED = 1


class Undeclared(enum.Enum):
    A = 1


@dubbo.bean("com.example.Pair", names={"second": "zweites"})
@dataclass(frozen=True)
class Pair:
    first: int
    second: str = "x"


@dubbo.bean("com.example.Labelled")
@dataclass
class Labelled:
    label: str
    count: int
    done: bool
    weight: float
    note: str | None


@dataclass
class Plain:
    value: java.long
    made: list[int] = field(default_factory=list)
    own: int = field(default=0, init=False)


@dubbo.bean("com.example.Tree")
class Tree(msgspec.Struct, rename="camel"):
    left_side: Tree | None = None
    right_side: Tree | None = None


DESCRIPTORS = [
    (bool, "Z"),
    (int, "I"),
    (float, "D"),
    (str, "Ljava/lang/String;"),
    (bytes, "[B"),
    (decimal.Decimal, "Ljava/math/BigDecimal;"),
    (datetime.datetime, "Ljava/util/Date;"),
    (datetime.date, "Ljava/time/LocalDate;"),
    (uuid.UUID, "Ljava/util/UUID;"),
    (list[int], "Ljava/util/List;"),
    (list, "Ljava/util/List;"),
    (Sequence[str], "Ljava/util/List;"),
    (tuple[int, ...], "Ljava/util/List;"),
    (set[str], "Ljava/util/Set;"),
    (frozenset[str], "Ljava/util/Set;"),
    (dict[str, int], "Ljava/util/Map;"),
    (Mapping[str, int], "Ljava/util/Map;"),
    (int | None, "Ljava/lang/Integer;"),
    (Optional[bool], "Ljava/lang/Boolean;"),  # noqa: UP045
    (java.long | None, "Ljava/lang/Long;"),
    (str | None, "Ljava/lang/String;"),
    (Any, "Ljava/lang/Object;"),
    (object, "Ljava/lang/Object;"),
    (dubbo.Bean, "Ljava/lang/Object;"),
    (None, "V"),
    (Color, "Lcom/example/Color;"),
    (Pair, "Lcom/example/Pair;"),
    (Plain, "Ljava/util/Map;"),
    (java.byte, "B"),
    (java.short, "S"),
    (java.int_, "I"),
    (java.long, "J"),
    (java.float_, "F"),
    (java.char, "C"),
    (java.Long, "Ljava/lang/Long;"),
    (java.BigInteger, "Ljava/math/BigInteger;"),
    (java.Instant, "Ljava/time/Instant;"),
    (Annotated[list[int], java.type_("int[]")], "[I"),
    (Annotated[list[Pair], java.type_("com.example.Pair[]")], "[Lcom/example/Pair;"),
    (Annotated[Any, java.type_("com.example.Thing")], "Lcom/example/Thing;"),
    (Annotated[int, "a note of somebody else's"], "I"),
]


@pytest.mark.parametrize(("annotation", "descriptor"), DESCRIPTORS, ids=lambda each: str(each)[:50])
def test_an_annotation_stands_for_a_java_type(annotation: Any, descriptor: str) -> None:
    assert mapping_of(annotation, "here").descriptor == descriptor


@pytest.mark.parametrize(
    "annotation",
    [
        complex,
        int | str,
        Union[int, str, None],  # noqa: UP007
        tuple[int, str],
        Literal["a"],
        T,
        Undeclared,
        Callable[[], int],
        object(),
        list[complex],
        dict[str, complex],
    ],
    ids=str,
)
def test_what_java_has_no_place_for_is_refused_with_its_place(annotation: Any) -> None:
    with pytest.raises(dubbo.UsageError, match=r"^Shop\.sell: parameter 'x': "):
        mapping_of(annotation, "Shop.sell: parameter 'x'")


def there_and_back(annotation: Any, value: Any) -> Any:
    mapping = mapping_of(annotation, "here")
    sent = value if mapping.encode is None else mapping.encode(value)
    came = hessian2.decode(hessian2.encode(sent, types=[mapping.descriptor]))
    return came if mapping.decode is None else mapping.decode(came, {})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[java.long], [1, 2**40]),
        (list[float], [1.0, 2.5]),
        (set[Color], {Color.RED}),
        (frozenset[int], frozenset({1, 2})),
        (tuple[Pair, ...], (Pair(1), Pair(2, "y"))),
        (dict[str, list[Pair]], {"a": [Pair(1)]}),
        (dict[int, Color], {1: Color.RED}),
        (Pair | None, None),
        (list[Pair | None], [None, Pair(3)]),
        (Plain, Plain(5, [1])),
        (Tree, Tree(Tree(), Tree(Tree()))),
        (java.BigInteger, 5),
        (Annotated[list[int], java.type_("long[]")], [1, 2]),
    ],
    ids=str,
)
def test_declared_values_come_back_as_they_went(annotation: Any, value: Any) -> None:
    back = there_and_back(annotation, value)
    assert back == value
    assert type(back) is type(value)


def test_elements_have_the_java_types_that_are_said() -> None:
    """Erasure takes them from the descriptor: a List<Long> of small numbers is longs as well."""
    encode = mapping_of(list[java.long], "here").encode
    assert encode is not None
    assert [type(each) for each in encode([1, None])] == [Long, type(None)]
    encode = mapping_of(dict[str, float], "here").encode
    assert encode is not None
    assert type(encode({"a": 1})["a"]) is Double
    encode = mapping_of(list[java.BigInteger], "here").encode
    assert encode is not None
    assert type(encode([1])[0]) is BigInteger
    encode = mapping_of(set[java.long], "here").encode
    assert encode is not None
    made = encode({1})
    assert type(made) is TypedList
    assert made.java_class == "java.util.HashSet"


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, "x", "expected int, got str"),
        (int, True, "expected int, got bool"),
        (int, None, "expected int, got null"),
        (str, 1, "expected str, got int"),
        (list[int], {}, "expected list, got dict"),
        (list[int], [1, "x"], r"expected int, got str in \[1\]"),
        (dict[str, int], {"a": "x"}, r"expected int, got str in \['a'\]"),
        (Labelled, dubbo.Bean("com.example.Labelled", count=1), "field 'label' is missing"),
        (Pair, {"first": "x"}, r"expected int, got str in \.first"),
        (Pair, [], "expected Pair, got list"),
        (Color, dubbo.enum("com.example.Color", "BLUE"), "expected Color, got 'BLUE'"),
        (set[Any], [[1]], "unhashable"),
        (bytes, "no base64!", "expected bytes, got str"),
        (decimal.Decimal, "x", "expected Decimal, got str"),
        (datetime.datetime, 1 << 70, "expected datetime, got int"),
    ],
)
def test_what_does_not_fit_says_where(annotation: Any, value: Any, said: str) -> None:
    decode = mapping_of(annotation, "here").decode
    assert decode is not None
    with pytest.raises(Misfit, match=said):
        decode(value, {})


def test_fields_that_java_left_out_have_the_values_that_they_have_in_java() -> None:
    # fastjson leaves out nulls, fastjson2 zeros too.
    decode = mapping_of(Labelled, "here").decode
    assert decode is not None
    assert decode(dubbo.Bean("com.example.Labelled", label="x"), {}) == Labelled(
        "x", 0, False, 0.0, None
    )


def test_what_json_has_for_javas_values_fits_too() -> None:
    def decoded(annotation: Any, value: Any) -> Any:
        decode = mapping_of(annotation, "here").decode
        assert decode is not None
        return decode(value, {})

    at = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
    assert decoded(datetime.datetime, int(at.timestamp() * 1000)) == at
    assert decoded(decimal.Decimal, "2.50") == decimal.Decimal("2.50")
    assert decoded(bytes, "AP8=") == b"\x00\xff"
    assert decoded(Color, "RED") is Color.RED
    assert decoded(float, 1) == 1.0


def test_shared_parts_are_converted_once() -> None:
    """Forty levels of two references each would be a million million pairs."""
    value: Any = []
    for _ in range(40):
        value = [value, value]
    decode = mapping_of(list[Any], "here").decode
    nested: Any = list[int]
    for _ in range(40):
        nested = list[nested]
    decode = mapping_of(nested, "here").decode
    assert decode is not None
    assert decode(value, {})[0] is not None
    tree = dubbo.Bean("com.example.Tree", leftSide=None, rightSide=None)
    for _ in range(40):
        tree = dubbo.Bean("com.example.Tree", leftSide=tree, rightSide=tree)
    decode = mapping_of(Tree, "here").decode
    assert decode is not None
    made = decode(tree, {})
    assert made.left_side is made.right_side


def test_a_service_has_its_public_methods_with_those_of_its_bases() -> None:
    class Base:
        def inherited(self) -> int:
            return 1

        def _hidden(self) -> None: ...

    @dubbo.service("com.example.Shop", version="0.0.0", group="g")
    class Shop(Base):
        @staticmethod
        def fixed(value: int) -> int:
            return value

        @dubbo.method("sellTwo")
        def sell(self, first: str, second: str = "") -> None: ...

    declaration = Declaration.of(Shop)
    assert (declaration.interface, declaration.version, declaration.group) == (
        "com.example.Shop",
        "",
        "g",
    )
    found = {method.name: method for method in declaration.methods}
    assert found.keys() == {"inherited", "fixed", "sellTwo"}
    assert (found["sellTwo"].least, found["sellTwo"].descriptor(2)) == (1, "Ljava/lang/String;" * 2)
    assert found["fixed"].descriptor(1) == "I"


def refused(make: Callable[[], Any]) -> str:
    with pytest.raises(dubbo.UsageError) as caught:
        make()
    return str(caught.value)


def test_what_is_wrong_with_a_class_is_said_where_it_is_declared() -> None:
    shop = dubbo.service("com.example.Shop")

    class Many:
        def sell(self, *what: str) -> None: ...

    class ByName:
        def sell(self, *, what: str) -> None: ...

    class Generator:
        def sell(self) -> Any:
            yield 1

    class Nothing:
        pass

    class Taken:
        def with_options(self) -> None: ...

    class Twice:
        def sell(self, what: str) -> None: ...

        @dubbo.method("sell")
        def sell_also(self, other: str) -> None: ...

    class Wrong:
        def sell(self, what: complex) -> None: ...

    assert "Many.sell: parameter *what" in refused(lambda: shop(Many))
    assert "ByName.sell: Java knows no parameters by name only" in refused(lambda: shop(ByName))
    assert "a generator" in refused(lambda: shop(Generator))
    assert "without public methods" in refused(lambda: shop(Nothing))
    assert "the name is taken" in refused(lambda: shop(Taken))
    assert "sell is sell(Ljava/lang/String;) already" in refused(lambda: shop(Twice))
    assert "Wrong.sell: parameter 'what': complex" in refused(lambda: shop(Wrong))
    assert "interface" in refused(lambda: dubbo.service("no name")(Protocol))  # type: ignore[type-var]
    assert "no java_class of its own" in refused(
        lambda: dubbo.service("a.B", errors=[dubbo.JavaError])(Wrong)
    )
    assert "@dubbo.service" in refused(lambda: Declaration.of(Nothing))


def test_what_is_wrong_with_a_bean_is_said_where_it_is_declared() -> None:
    class Nobody:
        pass

    assert "is no dataclass" in refused(lambda: dubbo.bean("a.B")(Nobody))
    assert "name of a Java class" in refused(lambda: dubbo.bean("no name"))
    assert "has no field 'third'" in refused(lambda: dubbo.bean("a.B", names={"third": "x"})(Pair))
    assert "one name in Java" in refused(
        lambda: dubbo.bean("a.B", names={"first": "x", "second": "x"})(Pair)
    )
    assert "no Java type" in refused(lambda: java.type_("no type"))


def test_type_checkers_see_what_is_declared() -> None:
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/dubbo/client/typed_sdk.py"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(root / "src")},
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("annotation", "value", "decoded"),
    [
        (datetime.date, "2020-02-29", datetime.date(2020, 2, 29)),
        (datetime.time, "01:02:03", datetime.time(1, 2, 3)),
        (java.LocalDateTime, "2020-02-29T01:02:03", datetime.datetime(2020, 2, 29, 1, 2, 3)),
        (datetime.timedelta, "PT-1H30M0.5S", datetime.timedelta(hours=-1, minutes=30, seconds=0.5)),
        (uuid.UUID, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678" + "12345678" * 3)),
        (dict[java.long, str], {"5000000000": "many"}, {5000000000: "many"}),
        (dict[bool, int], {"true": 1}, {True: 1}),
        (dict[float, list[decimal.Decimal]], {"0.5": [9]}, {0.5: [decimal.Decimal(9)]}),
    ],
)
def test_what_only_json_has_as_text_is_what_the_annotation_says(
    annotation: Any, value: Any, decoded: Any
) -> None:
    decode = mapping_of(annotation, "here").decode
    assert decode is not None
    assert decode(value, {}) == decoded


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime.date, "tomorrow"),
        (datetime.timedelta, "PT"),
        (uuid.UUID, "x"),
        (dict[java.long, str], {"one": "x"}),
        (dict[bool, int], {"True": 1}),
    ],
)
def test_text_that_says_nothing_of_the_annotation_is_a_misfit(annotation: Any, value: Any) -> None:
    decode = mapping_of(annotation, "here").decode
    assert decode is not None
    with pytest.raises(Misfit):
        decode(value, {})


def test_a_set_of_constants_may_be_an_enum_set() -> None:
    @dubbo.bean("com.example.Shade")
    class Shade(enum.Enum):
        DARK = 1
        LIGHT = 2

    annotation = Annotated[set[Shade], java.type_("java.util.EnumSet")]
    mapping = mapping_of(annotation, "here")
    assert mapping.descriptor == "Ljava/util/EnumSet;"
    assert mapping.encode is not None and mapping.decode is not None
    for constants in ({Shade.DARK}, set()):
        made = mapping.encode(constants)
        assert made["type"]["name"] == "com.example.Shade"
        came = hessian2.decode(hessian2.encode(made, types=[mapping.descriptor]))
        assert mapping.decode(came, {}) == constants
    with pytest.raises(Misfit, match="expected set"):
        mapping.encode(5)
