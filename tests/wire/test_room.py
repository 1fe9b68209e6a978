"""Bytes of a known length that arrive in pieces."""

from __future__ import annotations

import pytest

from dragoman.errors import UsageError
from dragoman.wire.room import Room


@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 0, 4]])
def test_what_comes_in_pieces_is_whole_at_the_end(pieces: list[int]) -> None:
    room, left = Room(7), b"abcdefg"
    for n in pieces:
        room.rest()[:n] = left[:n]
        left = left[n:]
        assert room.fill(n) == (not left)
    assert room.take() == b"abcdefg"


def test_nobody_sees_bytes_that_are_not_whole_or_fills_more_than_there_is_room() -> None:
    room = Room(2)
    assert len(room.rest()) == 2
    assert not room.fill(1)
    for wrong in (room.take, lambda: room.fill(2), lambda: room.fill(-1)):
        with pytest.raises(UsageError):
            wrong()
    assert room.fill(1)
    with pytest.raises(UsageError):
        room.rest()
    assert len(room.take()) == 2
    for wrong in (room.take, room.rest, lambda: room.fill(1)):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(UsageError):
        Room(0)
