"""Running the request decoder over bytes in pieces, for the tables and the fuzzing."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman.wire.http1 import HttpError, Request, RequestDecoder
from tests.wire.http1.cases import CLOSED, IDLE, UNFINISHED, WANTED


def decode(
    pieces: Iterable[bytes], **limits: int
) -> tuple[list[Request], int | str, RequestDecoder]:
    """All requests in the pieces, the verdict at the end, and the decoder."""
    decoder = RequestDecoder(wanted=WANTED, **limits)
    requests: list[Request] = []
    try:
        for piece in pieces:
            decoder.receive_data(piece)
            while True:
                request = decoder.poll()
                if request is not None:
                    requests.append(request)
                elif not decoder.continue_wanted:
                    break
    except HttpError as error:
        return requests, error.status, decoder
    if requests and not requests[-1].keep_alive:
        return requests, CLOSED, decoder
    return requests, UNFINISHED if decoder.unfinished else IDLE, decoder


def one_byte_at_a_time(data: bytes) -> list[bytes]:
    """The data in pieces of one byte."""
    return [data[i : i + 1] for i in range(len(data))]
