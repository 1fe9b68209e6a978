"""The same bytes shown to h11 and to llhttp (``httptools``), in one form for comparison."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import h11
import httptools

from tests.wire.http1.cases import WANTED
from tests.wire.http1.support import decode


@dataclass
class Seen:
    """One request as a peer saw it. ``values`` are the first values of the wanted fields."""

    method: str = ""
    target: bytes = b""
    body: bytes = b""
    keep_alive: bool = True
    values: dict[str, bytes] = field(default_factory=dict)


def see_h11(data: bytes) -> list[Seen]:
    """The whole requests that h11 reads; raises ``h11.RemoteProtocolError``."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    requests: list[Seen] = []
    seen = Seen()
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            seen = Seen(event.method.decode(), event.target)
            for name, value in event.headers:
                if name.decode() in WANTED:
                    seen.values.setdefault(name.decode(), value)
        elif isinstance(event, h11.Data):
            seen.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            requests.append(seen)
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            seen.keep_alive = connection.our_state is not h11.MUST_CLOSE
            if not seen.keep_alive:
                return requests
            connection.start_next_cycle()
        else:
            return requests


class _Callbacks:
    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.seen = Seen()
        self.parser = httptools.HttpRequestParser(self)
        self.trailers = False

    def on_message_begin(self) -> None:
        self.seen = Seen()
        self.trailers = False

    def on_url(self, url: bytes) -> None:
        self.seen.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        text = name.decode("latin-1").lower()
        if text in WANTED and not self.trailers:
            self.seen.values.setdefault(text, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        self.trailers = True
        self.seen.method = self.parser.get_method().decode()
        self.seen.keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.seen.body += body

    def on_message_complete(self) -> None:
        self.requests.append(self.seen)


def see_llhttp(data: bytes) -> list[Seen]:
    """The whole requests that llhttp reads; raises ``httptools.HttpParserError``."""
    callbacks = _Callbacks()
    callbacks.parser.feed_data(data)
    return callbacks.requests


def compare(data: bytes, **limits: int) -> int:
    """Assert that what dragoman accepts the others accept with the same meaning.

    Returns how many requests that were.
    """
    requests = decode([data], **limits)[0]
    if not requests:
        return 0
    # only what dragoman took: a refused or unfinished rest says nothing
    taken = data[: taken_bytes(data, len(requests), limits)]
    for see in (see_h11, see_llhttp):
        if see is see_h11:
            taken = without_empty_lines(taken, len(requests), limits)
        try:
            seen = see(taken)
        except httptools.HttpParserUpgrade:
            continue  # llhttp stops for Upgrade, which a server may ignore (RFC 9110 7.8)
        except (h11.RemoteProtocolError, httptools.HttpParserError) as error:
            if see is see_llhttp and "Data after" in str(error):
                # llhttp takes ``Connection: close`` from a trailer too, which RFC 9110 section
                # 6.5.1 forbids; from a header h11 would have taken it as well.
                continue
            raise AssertionError(f"{see.__name__} refuses {taken!r}: {error!r}") from error
        got = [Seen(r.method, r.target, r.body, r.keep_alive, r.values) for r in requests]
        if see is see_h11 and b"HTTP/1.0" in taken:
            got = got[: max(1, len(seen))]  # after a request of HTTP/1.0 h11 reads no further
        for theirs, ours in zip(seen, got, strict=False):
            # to close is the strict side; h11 never keeps HTTP/1.0 open
            if not ours.keep_alive or (see is see_h11 and b"HTTP/1.0" in taken):
                theirs.keep_alive = ours.keep_alive
        assert seen == got, f"{see.__name__} of {taken!r}"
    return len(requests)


def without_empty_lines(data: bytes, count: int, limits: dict[str, int]) -> bytes:
    """The same requests without the empty lines between them.

    RFC 9112 section 2.2 asks servers to ignore one before a request; h11 refuses it.
    """
    if count == 1 and not data.startswith(b"\r\n"):
        return data
    ends = [0, *[taken_bytes(data, i + 1, limits) for i in range(count)]]
    return b"".join(
        data[start:end].removeprefix(b"\r\n") for start, end in itertools.pairwise(ends)
    )


def taken_bytes(data: bytes, count: int, limits: dict[str, int]) -> int:
    """How long the beginning of ``data`` is that holds exactly ``count`` requests."""
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        if len(decode([data[:middle]], **limits)[0]) >= count:
            high = middle
        else:
            low = middle + 1
    return low
