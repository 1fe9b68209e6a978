"""A usual JSON call read in place, beside the declarations that read any call."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from dragoman.agent.contract import JsonCall
from dragoman.wire.json.usual_call import usual_call
from dragoman.wire.misfit import UNREADABLE

USUAL = [
    b'{"args":[]}',
    b'{"types":[],"args":[]}',
    b'{"types":["java.lang.String"],"args":["x"]}',
    b' {\n"args" : [ 1 ,\t-2.5e3, true,null, "caf\xc3\xa9\\n\\u20ac" ] , "oneway": true } \r\n',
    b'{"envelope":true,"class":false,"group":"g","version":"1.0","args":[{"a":[{"b":""}]}]}',
    b'{"oneway":false}',
    b'{"args":[1],"attachments":{}}',
    b'{"attachments" : { "a" : "b" , "c":"" },"args":[1]}',
    b'{"args":[%b]}' % b",".join([b"0"] * 16),
]
# Read as any call, or refused.
NOT_TAKEN = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'{"args":[1],}',
    b'{"args":[1,]}',
    b'{"args":[,1]}',
    b'{"args":[1 2]}',
    b'{"args":[1]}x',
    b'{"args":[01]}',
    b'{"args":["\xff"]}',
    b'{"args":["\t"]}',
    b'{"args":["\\x"]}',
    b'{"args":[1],"args":[2]}',
    b'{"types":null,"args":[1]}',
    b'{"types":["\\u0069nt"],"args":[1]}',
    b'{"types":["\xc3\xa9"],"args":[1]}',
    b'{"types":["int" "int"],"args":[1]}',
    b'{"types":["int",],"args":[1]}',
    b'{"types":[1],"args":[1]}',
    b'{"\\u0061rgs":[1]}',
    b'{"args":[{"@type":"x"}]}',
    b'{"args":[{"\\u0040type":"x"}]}',
    b'{"args":["\\ud83d\\ude00"]}',
    b'{"args":[{"\\uDFff":1}]}',
    b'{"args":[1],"attachments":{"a":1}}',
    b'{"args":[1],"attachments":{"a":"b",}}',
    b'{"args":[1],"attachments":{"a":"\\n"}}',
    b'{"args":[1],"attachments":null}',
    b'{"args":[1],"generic":true}',
    b'{"args":[1],"oneway":1}',
    b'{"args":[1],"group":null}',
    b'{"args":[%b]}' % b",".join([b"0"] * 17),
    b'{"args":[%b]}' % (b"[" * 129 + b"]" * 129),
    b'\xef\xbb\xbf{"args":[1]}',
]


def same(body: bytes) -> bool:
    """Whether it is taken; and then it is what the declaration makes of it."""
    found = usual_call(body)
    if found is None:
        return False
    types, attachments, fields, group, version, args, *flags = found
    if fields is not None:
        msgspec.json.decode(fields, type=dict[str, msgspec.Raw])
        return True
    call = msgspec.json.decode(body, type=JsonCall)
    assert call.types == (None if types is None else msgspec.json.decode(types))
    assert [bytes(each) for each in call.args] == args
    assert (call.group, call.version) == ((group or b"").decode(), (version or b"").decode())
    assert [call.oneway, call.envelope, call.class_names] == flags
    assert call.generic is None
    assert call.attachments == msgspec.json.decode(attachments or b"{}")
    return True


@pytest.mark.parametrize("body", USUAL)
def test_a_usual_call_is_taken_whole_and_no_beginning_of_it(body: bytes) -> None:
    assert same(body)
    for at in range(len(body.rstrip())):
        assert usual_call(body[:at]) is None


@pytest.mark.parametrize("body", NOT_TAKEN)
def test_what_takes_a_closer_look_is_not_taken(body: bytes) -> None:
    assert usual_call(body) is None


def test_whatever_is_taken_of_random_calls_reads_the_same_elsewhere() -> None:
    rng = random.Random(12)
    pieces = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"1", b"-", b"e", b"\xc3\xa9"]
    pieces += [
        b'"types"',
        b'"args"',
        b'"x"',
        b"null",
        b"true",
        b'"fields"',
        b"\\ud800",
        b"\\uDC00",
        b"\\u0041",
        b"\x00",
    ]
    taken = 0
    for _ in range(60_000):
        body = bytearray(rng.choice(USUAL))
        for _ in range(rng.randrange(1, 3)):
            at = rng.randrange(len(body) + 1)
            body[at : at + rng.randrange(3)] = rng.choice(pieces)
        taken += same(bytes(body))
    assert taken > 2_000


def test_strings_of_every_length_and_all_characters_are_taken() -> None:
    for length in range(81):
        for character in ("a", "é", "€", "😀", "{", " "):
            text = character * length
            body = msgspec.json.encode({"types": ["java.lang.String"], "args": [text]})
            assert same(body)
            if text:
                cut = body.replace(character.encode(), b"\xe2\x82", 1)
                assert usual_call(cut) is None


def test_what_is_read_here_is_readable_there() -> None:
    """Numbers beyond doubles, halves of characters, deep nesting: values are passed on as text."""
    for value in (b"1e999", b"-0", b'"\\ud800"', b"[" * 128 + b"]" * 128, b"9" * 1024):
        body: Any = b'{"args":[%b]}' % value
        try:
            msgspec.json.decode(body, type=JsonCall)
        except UNREADABLE:
            assert usual_call(body) is None
        else:
            assert same(body)
