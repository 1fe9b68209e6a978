"""Which groups and versions a caller means, and the services that several of them make."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.cluster import directory as directory_module
from dragoman.cluster.directory import Directory
from dragoman.cluster.options import Options
from dragoman.cluster.selection import chosen, is_choice
from dragoman.errors import NotFoundError
from dragoman.registry.registration import Registration


# Asked for, said, and what UrlUtils.isMatch of Java 2.7.23 and 3.3.6 says to it as groups.
@pytest.mark.parametrize(
    ("asked", "said", "matches"),
    [
        ("", "", True),
        ("*", "g", True),
        ("*", "", True),
        ("a,b", "b", True),
        ("a, b", "b", True),
        ("a,b", "c", False),
        ("a,b", "", False),
        ("a,", "", False),
        (",", "", False),
        ("g", "", False),
        ("g", "*", False),
        ("", "g", False),
        ("", "a,b", False),
        ("a", "a,b", False),
        ("a,b", "a,b", True),
        ("*,x", "g", False),
    ],
)
def test_a_group_means_what_it_means_to_java(asked: str, said: str, matches: bool) -> None:
    assert chosen(asked, said) == matches


def test_only_what_may_mean_several_is_a_choice() -> None:
    assert is_choice("*", "") and is_choice("", "1.0,2.0") and is_choice("a,b", "*")
    assert not is_choice("a", "1.0.0") and not is_choice("", "")


def registration(port: int, group: str = "", version: str = "") -> Registration:
    return Registration(interface="a.B", host="h", port=port, group=group, version=version)


LISTED = [
    registration(1),
    registration(2, "blue", "1.0"),
    registration(3, "green", "1.0"),
    registration(4, "green", "2.0"),
    Registration(interface="a.C", host="h", port=5, group="blue"),
]


def test_a_choice_is_served_by_all_that_it_means_and_follows_the_list() -> None:
    async def scenario() -> None:
        directory = Directory(asyncio.get_running_loop(), Options())
        directory.update(LISTED)

        def ports(group: str, version: str = "") -> list[int]:
            found = directory.find("a.B", group, version)
            return sorted(each.registration.port for each in found.endpoints.values())

        assert ports("*", "*") == [1, 2, 3, 4]
        assert ports("*", "1.0") == [2, 3]
        assert ports("blue,green", "*") == [2, 3, 4]
        assert ports("green", "1.0,2.0") == [3, 4]
        assert ports("*") == ports("*", "0.0.0") == [1]
        # One that means a single service is that service.
        assert directory.find("a.B", "blue,red", "*") is directory.find("a.B", "blue", "1.0")
        both = directory.find("a.B", "*", "1.0")
        assert directory.find("a.B", "green,blue", "1.0") is both
        for group, version in (("red,grey", "*"), ("*", "3.0"), ("blue,green", "3.0")):
            with pytest.raises(NotFoundError, match=r"no service .*a.B.* is registered"):
                directory.find("a.B", group, version)
        directory.update([*LISTED[:2], registration(6, "green", "1.0")])
        assert ports("*", "1.0") == [2, 6]
        assert directory.find("a.B", "*", "1.0") is both
        assert "blue/a.B:1.0 or green/a.B:1.0" in [
            each["service"] for each in await directory.status()
        ]
        await directory.close()

    asyncio.run(scenario())


def test_choices_are_bounded_and_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "UNIONS_MAX", 3)

    async def scenario() -> None:
        directory = Directory(asyncio.get_running_loop(), Options())
        directory.update([registration(1 + i, f"g{i}") for i in range(6)])
        first = directory.find("a.B", "g0,g1")
        for i in range(1, 5):
            directory.find("a.B", f"g{i},g{i + 1}")
            assert len(await directory.status()) <= 6 + 3
        await asyncio.sleep(0)
        assert first.closed
        assert directory.find("a.B", "g0,g1") is not first
        await directory.close()

    asyncio.run(scenario())
