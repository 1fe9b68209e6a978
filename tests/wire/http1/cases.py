"""The table of HTTP request cases: bytes, the requests expected from them, and the verdict.

Each case is run whole, a byte at a time, split at every place and with more bytes after it
(``test_requests``); those that are accepted are also shown to h11 and llhttp.

Long because it is one table, in parts by what of a request a row is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dragoman.wire.http1 import CT_FORM, CT_JSON, CT_JSON_OTHERWISE, CT_NONE, CT_OTHER

WANTED = ("host", "x-a", "content-type", "x-dubbo-group", "expect")

IDLE = "idle"  # all was read, the next request may come
UNFINISHED = "unfinished"  # a request has begun
CLOSED = "closed"  # the last request said close


@dataclass(frozen=True)
class Expected:
    """What a request must look like."""

    method: str = "GET"
    target: bytes = b"/"
    body: bytes = b""
    keep_alive: bool = True
    content_kind: int = CT_NONE
    values: dict[str, bytes] = field(default_factory=dict)
    path: bytes | None = None
    query: bytes | None = None


@dataclass(frozen=True)
class Case:
    """One row: ``verdict`` is a status, or one of IDLE, UNFINISHED and CLOSED."""

    name: str
    data: bytes
    requests: tuple[Expected, ...]
    verdict: int | str
    limits: dict[str, int] = field(default_factory=dict)


def request(
    line: bytes = b"GET / HTTP/1.1", *fields: bytes, body: bytes = b"", host: bytes | None = b"h"
) -> bytes:
    """The bytes of a request."""
    lines = [line, *([b"Host: " + host] if host is not None else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """The bytes of a POST whose framing the caller writes."""
    return request(b"POST / HTTP/1.1", *fields, body=body)


def chunked(body: bytes, *fields: bytes) -> bytes:
    """The bytes of a POST with a chunked body as it stands."""
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


def ok(
    name: str, data: bytes, *requests: Expected, verdict: int | str = IDLE, **limits: int
) -> Case:
    """A case that is accepted."""
    return Case(name, data, requests or (Expected(),), verdict, limits)


def cut(name: str, data: bytes, *requests: Expected, **limits: int) -> Case:
    """A case that ends within a request, perhaps after some whole ones."""
    return Case(name, data, requests, UNFINISHED, limits)


def bad(name: str, status: int, data: bytes, *requests: Expected, **limits: int) -> Case:
    """A case that is refused, perhaps after some requests."""
    return Case(name, data, requests, status, limits)


def start_lines() -> Iterator[Case]:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        yield ok(
            f"method {method}", request(method.encode() + b" / HTTP/1.1"), Expected(method=method)
        )
    targets: list[tuple[bytes, bytes, bytes | None]] = [
        (b"/a/b", b"/a/b", None),
        (b"/a?b=c", b"/a", b"b=c"),
        (b"/?", b"/", b""),
        (b"/a?b?c=/d", b"/a", b"b?c=/d"),
        (b"//x", b"//x", None),
        (b"/%41%ff;p=1,2!$&'()*+=:@~-._", b"/%41%ff;p=1,2!$&'()*+=:@~-._", None),
        (b"http://h", b"/", None),
        (b"http://h/", b"/", None),
        (b"http://h:80/a?b", b"/a", b"b"),
        (b"HTTP://h/a", b"/a", None),
        (b"http://h?b", b"/", b"b"),
        (b"http://[::1]:8080/x", b"/x", None),
        (b"/com.alibaba.IHelloService/hash", b"/com.alibaba.IHelloService/hash", None),
    ]
    for target, path, query in targets:
        yield ok(
            f"target {target.decode()}",
            request(b"GET " + target + b" HTTP/1.1"),
            Expected(target=target, path=path, query=query),
        )
    yield ok(
        "target * with OPTIONS",
        request(b"OPTIONS * HTTP/1.1"),
        Expected(method="OPTIONS", target=b"*", path=b"*"),
    )
    yield ok("an empty line before the request", b"\r\n" + request())
    yield ok("an empty line between requests", request() + b"\r\n" + request(), *[Expected()] * 2)
    yield Case("nothing at all", b"", (), IDLE)
    for name, status, line in (
        ("unknown method", 501, b"BREW / HTTP/1.1"),
        ("method in lower case", 501, b"get / HTTP/1.1"),
        ("method with a known prefix", 501, b"GETX / HTTP/1.1"),
        ("method PROPFIND", 501, b"PROPFIND / HTTP/1.1"),
        ("CONNECT", 405, b"CONNECT h:80 HTTP/1.1"),
        ("TRACE", 405, b"TRACE / HTTP/1.1"),
        ("HTTP/2 preface", 505, b"PRI * HTTP/2.0"),
        ("HTTP/2.0", 505, b"GET / HTTP/2.0"),
        ("HTTP/3.0", 505, b"GET / HTTP/3.0"),
        ("HTTP/0.9", 505, b"GET / HTTP/0.9"),
        ("HTTP/1.2", 505, b"GET / HTTP/1.2"),
        ("no version", 400, b"GET /"),
        ("an empty version", 400, b"GET / "),
        ("version in lower case", 400, b"GET / http/1.1"),
        ("version without minor", 400, b"GET / HTTP/1"),
        ("version with two digits", 400, b"GET / HTTP/1.10"),
        ("version with a comma", 400, b"GET / HTTP/1,1"),
        ("version with spaces after it", 400, b"GET / HTTP/1.1 "),
        ("version of another protocol", 400, b"GET / HTTQ/1.1"),
        ("version with a letter", 400, b"GET / HTTP/1.x"),
        ("two spaces before the target", 400, b"GET  / HTTP/1.1"),
        ("two spaces before the version", 400, b"GET /  HTTP/1.1"),
        ("tab instead of space", 400, b"GET\t/ HTTP/1.1"),
        ("space before the method", 400, b" GET / HTTP/1.1"),
        ("no target", 400, b"GET HTTP/1.1"),
        ("target without slash", 400, b"GET a HTTP/1.1"),
        ("target * with GET", 400, b"GET * HTTP/1.1"),
        ("target ** with OPTIONS", 400, b"OPTIONS ** HTTP/1.1"),
        ("target with a fragment", 400, b"GET /a#b HTTP/1.1"),
        ("target with a quote", 400, b'GET /" HTTP/1.1'),
        ("target with angle brackets", 400, b"GET /<a> HTTP/1.1"),
        ("target with a backslash", 400, b"GET /\\ HTTP/1.1"),
        ("target with NUL", 400, b"GET /\0 HTTP/1.1"),
        ("target with DEL", 400, b"GET /\x7f HTTP/1.1"),
        ("target with UTF-8", 400, b"GET /\xc3\xbc HTTP/1.1"),
        ("target of another scheme", 400, b"GET ftp://h/ HTTP/1.1"),
        ("target without authority", 400, b"GET http:///a HTTP/1.1"),
        ("target with user info", 400, b"GET http://u@h/ HTTP/1.1"),
        ("target with a bad port", 400, b"GET http://h:8x/ HTTP/1.1"),
        ("target as an authority", 400, b"GET h:80 HTTP/1.1"),
        ("method with a bracket", 400, b"GE[T / HTTP/1.1"),
        ("bare LF in the request line", 400, b"GET / HTTP/1.1\nX: y"),
        ("bare CR in the request line", 400, b"GET / HTTP/1.1\rX: y"),
        ("bare CR in the target", 400, b"GET /\ra HTTP/1.1"),
    ):
        yield bad(name, status, request(line))
    yield bad("two empty lines before the request", 400, b"\r\n\r\n" + request())
    yield bad("bare LF before the request", 400, b"\n" + request())
    yield bad("bare CR before the request", 400, b"\r" + request())
    yield bad("TLS instead of HTTP", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    yield bad("NUL instead of HTTP", 400, b"\0" * 8)
    yield bad("a Dubbo frame instead of HTTP", 400, b"\xda\xbb\xc2\x00" + bytes(12))


def hosts() -> Iterator[Case]:
    for host in (
        b"h", b"a.example", b"a.example:80", b"127.0.0.1:20000", b"[::1]", b"[::1]:8080", b"h:",
        b"[::ffff:1.2.3.4]:1", b"a_b-c~d", b"xn--bcher-kva.example", b"%41",
    ):  # fmt: skip
        yield ok(f"Host {host.decode()}", request(host=host), Expected(values={"host": host}))
    for name, host in (
        ("empty", b""),
        ("blank", b"  "),
        ("with user info", b"u@h"),
        ("with a path", b"h/a"),
        ("with a query", b"h?a"),
        ("with a space", b"h h"),
        ("with a comma", b"h,i"),
        ("with a bad port", b"h:8a"),
        ("with a long port", b"h:123456"),
        ("with two ports", b"h:80:81"),
        ("of a port alone", b":80"),
        ("with an open bracket", b"[::1"),
        ("with letters after a bracket", b"[::1]a"),
        ("with empty brackets", b"[]"),
        ("with a zone", b"[fe80::1%25eth0]"),
        ("in UTF-8", b"b\xc3\xbc"),
        ("with a tab", b"h\ti"),
        ("with a fragment", b"h#a"),
    ):
        yield bad(f"Host {name}", 400, request(host=host))
    yield bad("Host missing", 400, request(host=None))
    yield bad("Host repeated", 400, request(b"GET / HTTP/1.1", b"Host: h"))
    yield bad("Host repeated in other letters", 400, request(b"GET / HTTP/1.1", b"hOST: i"))
    yield bad("target https on a plain port", 421, request(b"GET https://h/a HTTP/1.1"))
    yield bad("target HTTPS in capitals", 421, request(b"GET HTTPS://h/a HTTP/1.1"))
    yield bad("Host missing with an absolute target", 400, b"GET http://h/ HTTP/1.1\r\n\r\n")
    yield ok(
        "Host other than the target's",
        request(b"GET http://i/ HTTP/1.1"),
        Expected(target=b"http://i/", path=b"/", values={"host": b"h"}),
    )
    close = Expected(keep_alive=False)
    yield ok("HTTP/1.0 without Host", request(b"GET / HTTP/1.0", host=None), close, verdict=CLOSED)
    yield bad("HTTP/1.0 with an empty Host", 400, request(b"GET / HTTP/1.0", host=b""))
    yield bad("HTTP/1.0 with two Hosts", 400, request(b"GET / HTTP/1.0", b"Host: h"))


def fields() -> Iterator[Case]:
    for name, line, value in (
        ("plain", b"X-A: b", b"b"),
        ("without space", b"X-A:b", b"b"),
        ("with much space", b"X-A: \t b \t ", b"b"),
        ("empty", b"X-A:", b""),
        ("blank", b"X-A:  ", b""),
        ("in capitals", b"X-A: B C", b"B C"),
        ("name in capitals", b"X-A: b", b"b"),
        ("name in small letters", b"x-a: b", b"b"),
        ("with inner tab", b"X-A: a\tb", b"a\tb"),
        ("with obs-text", b"X-A: \xe4\xff", b"\xe4\xff"),
        ("with colons", b"X-A: a:b:", b"a:b:"),
        ("with every mark", b"X-A: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", None),
        ("of eight bytes", b"X-A: 12345678", b"12345678"),
        ("of nine bytes", b"X-A: 123456789", b"123456789"),
        ("of forty bytes", b"X-A: " + b"0123456789" * 4, b"0123456789" * 4),
    ):
        expected = line[5:] if value is None else value
        yield ok(
            f"field {name}",
            request(b"GET / HTTP/1.1", line),
            Expected(values={"x-a": expected}),
        )
    for name, lines in (
        ("wanted field repeated", [b"X-A: a", b"X-A: b"]),
        ("wanted field repeated, blank", [b"X-A: a", b"x-a:"]),
        ("wanted field repeated, alike", [b"X-A: a", b"X-B: b", b"X-A: a"]),
        ("Content-Encoding repeated", [b"Content-Encoding: identity"] * 2),
        ("Content-Encoding repeated after a blank", [b"Content-Encoding:", b"content-encoding: x"]),
    ):
        yield bad(name, 400, request(b"GET / HTTP/1.1", *lines))
    yield ok("field name of every mark", request(b"GET / HTTP/1.1", b"!#$%&'*+-.^_`|~09azAZ: b"))
    for name, line in (
        ("folded with a space", b"X-A: a\r\n b"),
        ("folded with a tab", b"X-A: a\r\n\tb"),
        ("with a space before the colon", b"X-A : b"),
        ("with a tab before the colon", b"X-A\t: b"),
        ("with an empty name", b": b"),
        ("without a colon", b"X-A"),
        ("with a space in the name", b"X A: b"),
        ("with a bracket in the name", b"X(A: b"),
        ("with UTF-8 in the name", b"X-\xc3\xbc: b"),
        ("with NUL in the name", b"X\0A: b"),
        ("with NUL in the value", b"X-A: a\0b"),
        ("with a control in the value", b"X-A: a\x01b"),
        ("with ESC in a long value", b"X-A: 0123456789ab\x1b0123456789"),
        ("with DEL in the value", b"X-A: a\x7fb"),
        ("with DEL in a long value", b"X-A: 0123456789ab\x7f0123456789"),
        ("with a vertical tab", b"X-A: a\x0bb"),
        ("with a form feed", b"X-A:\x0cb"),
        ("with bare LF in the value", b"X-A: a\nX-B: b"),
        ("with bare CR in the value", b"X-A: a\rX-B: b"),
        ("ended by LF CR", b"X-A: a\n\rX-B: b"),
        ("ended by CR CR LF", b"X-A: a\r\r\nX-B: b"),
    ):
        yield bad(f"field {name}", 400, request(b"GET / HTTP/1.1", line))
    yield bad("first field folded", 400, b"GET / HTTP/1.1\r\n Host: h\r\n\r\n")
    yield bad("head ended by bare LF", 400, b"GET / HTTP/1.1\r\nHost: h\r\n\nx")
    yield bad("head ended by CR and a letter", 400, b"GET / HTTP/1.1\r\nHost: h\r\n\rx")
    yield cut("a head without its end", request()[:-2])
    yield cut("a head without its last byte", request()[:-1])
    yield cut("a request line alone", b"GET / HTTP/1.1\r\n")
    yield cut("one letter", b"G")


def kinds() -> Iterator[Case]:
    for value, kind in (
        (b"application/x-www-form-urlencoded", CT_FORM),
        (b"Application/X-WWW-Form-Urlencoded", CT_FORM),
        (b"application/x-www-form-urlencoded; charset=utf-8", CT_FORM),
        (b"application/x-www-form-urlencoded;charset=utf-8", CT_FORM),
        (b"application/x-www-form-urlencoded ; charset=utf-8", CT_FORM),
        (b"application/json", CT_JSON),
        (b"APPLICATION/JSON;charset=UTF-8", CT_JSON),
        (b'application/json; charset="utf-8"', CT_JSON),
        (b'application/json; charset="u\\tf-8"', CT_JSON),
        (b"application/json; Charset=UTF8 ;", CT_JSON),
        (b"application/json;charset=us-ascii", CT_JSON),
        (b'application/json; q=";charset=latin-1"; charset=utf-8', CT_JSON),
        (b"application/json; xcharset=latin-1", CT_JSON),
        (b"application/json; version", CT_JSON),
        (b"application/json; ;;", CT_JSON),
        (b"application/json; charset=latin-1", CT_JSON_OTHERWISE),
        (b'application/json;CHARSET="ISO-8859-1"', CT_JSON_OTHERWISE),
        (b"application/json; charset=utf-16", CT_JSON_OTHERWISE),
        (b"application/json; charset=utf-8; charset=latin-1", CT_JSON_OTHERWISE),
        (b'application/json; a="\\";"; charset=utf-7', CT_JSON_OTHERWISE),
        (b"application/json; charset=", CT_JSON_OTHERWISE),
        (b"application/json; charset", CT_JSON_OTHERWISE),
        (b"application/json; charset =latin-1", CT_JSON_OTHERWISE),
        (b'application/json; charset="utf-8', CT_JSON_OTHERWISE),
        (b'application/json; charset="utf-8"x', CT_JSON_OTHERWISE),
        (b"application/json; charset=utf-8, text/plain", CT_JSON_OTHERWISE),
        # What a form's percent signs mean is UTF-8, whatever it says (WHATWG URL, section 5).
        (b"application/x-www-form-urlencoded; charset=latin-1", CT_FORM),
        (b"application/jsonp", CT_OTHER),
        (b"application/json2;a=b", CT_OTHER),
        (b"text/plain", CT_OTHER),
        (b"", CT_OTHER),
    ):
        yield ok(
            f"Content-Type {value.decode()}",
            post(b"Content-Type: " + value, b"Content-Length: 3", body=b"a=b"),
            Expected(method="POST", body=b"a=b", content_kind=kind, values={"content-type": value}),
        )
    yield bad("Content-Type repeated", 400, post(b"Content-Type: text/a", b"Content-Type: text/b"))


def connections() -> Iterator[Case]:
    for name, line, options, keep in (
        ("1.1", b"1.1", [], True),
        ("1.1 close", b"1.1", [b"close"], False),
        ("1.1 Close", b"1.1", [b"Close"], False),
        ("1.1 keep-alive", b"1.1", [b"keep-alive"], True),
        ("1.1 list with close", b"1.1", [b"x, close"], False),
        ("1.1 list with close first", b"1.1", [b"close , x"], False),
        ("1.1 keep-alive and close", b"1.1", [b"keep-alive, close"], False),
        ("1.1 two fields", b"1.1", [b"x", b"close"], False),
        ("1.1 something like close", b"1.1", [b"closed"], True),
        ("1.1 empty elements", b"1.1", [b", ,close"], False),
        ("1.1 empty", b"1.1", [b""], True),
        ("1.0", b"1.0", [], False),
        ("1.0 keep-alive", b"1.0", [b"keep-alive"], True),
        ("1.0 Keep-Alive", b"1.0", [b"Keep-Alive"], True),
        ("1.0 keep-alive and close", b"1.0", [b"keep-alive", b"close"], False),
        ("1.0 close", b"1.0", [b"close"], False),
    ):
        data = request(b"GET / HTTP/" + line, *[b"Connection: " + option for option in options])
        yield ok(
            f"connection {name}",
            data,
            Expected(keep_alive=keep),
            verdict=IDLE if keep else CLOSED,
        )
    yield ok(
        "what follows close is discarded",
        request(b"GET / HTTP/1.1", b"Connection: close") + b"\0garbage",
        Expected(keep_alive=False),
        verdict=CLOSED,
    )


def lengths() -> Iterator[Case]:
    three = Expected(method="POST", body=b"abc")
    yield ok("length 3", post(b"Content-Length: 3", body=b"abc"), three)
    yield ok("length 0", post(b"Content-Length: 0"), Expected(method="POST"))
    yield ok("length with leading zeros", post(b"Content-Length: 0003", body=b"abc"), three)
    yield ok("length with space after it", post(b"Content-Length: 3 ", body=b"abc"), three)
    yield ok("length of no body", post(), Expected(method="POST"))
    yield ok(
        "length at the limit", post(b"Content-Length: 3", body=b"abc"), three, body_bytes_max=3
    )
    yield ok("body with NUL and CR LF", post(b"Content-Length: 5", body=b"\0\r\n\r\n"),
             Expected(method="POST", body=b"\0\r\n\r\n"))  # fmt: skip
    yield cut("body cut", post(b"Content-Length: 4", body=b"abc"))
    yield cut("body not begun", post(b"Content-Length: 4"))
    yield ok(
        "GET with a body",
        request(b"GET / HTTP/1.1", b"Content-Length: 3", body=b"abc") + request(),
        Expected(body=b"abc"),
        Expected(),
    )
    yield ok(
        "HEAD with a body",
        request(b"HEAD / HTTP/1.1", b"Content-Length: 3", body=b"abc"),
        Expected(method="HEAD", body=b"abc"),
    )
    yield ok(
        "HTTP/1.0 with a body",
        request(b"POST / HTTP/1.0", b"Content-Length: 3", body=b"abc"),
        Expected(method="POST", body=b"abc", keep_alive=False),
        verdict=CLOSED,
    )
    yield ok(
        "a body of 5,000 bytes",
        post(b"Content-Length: 5000", body=b"0123456789" * 500),
        Expected(method="POST", body=b"0123456789" * 500),
    )
    for name, value in (
        ("empty", b""),
        ("with a plus", b"+3"),
        ("with a minus", b"-3"),
        ("in hexadecimal", b"0x3"),
        ("with an underscore", b"1_0"),
        ("with a list", b"3, 3"),
        ("with a list without space", b"3,3"),
        ("with a fraction", b"3.0"),
        ("with an exponent", b"3e0"),
        ("with a space inside", b"3 3"),
        ("with letters", b"three"),
        ("with letters after it", b"3a"),
        ("of 2^63", b"9223372036854775808"),
        ("of 2^64", b"18446744073709551616"),
        ("of thirty digits", b"1" * 30),
        ("of thirty zeros", b"0" * 30),
        ("in Arabic digits", "٣".encode()),
        ("in quotes", b'"3"'),
        ("with a semicolon", b"3;"),
    ):
        yield bad(f"length {name}", 400, post(b"Content-Length: " + value, body=b"abc"))
    yield bad("length repeated", 400, post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"))
    yield bad("lengths that differ", 400, post(b"Content-Length: 3", b"content-length: 4"))
    yield bad("length repeated after 0", 400, post(b"Content-Length: 0", b"Content-Length: 0"))
    yield bad("length over the limit", 413, post(b"Content-Length: 4"), body_bytes_max=3)
    yield bad("length of 2^63 - 1", 413, post(b"Content-Length: 9223372036854775807"))


def codings() -> Iterator[Case]:
    te = b"Transfer-Encoding: "
    end = b"0\r\n\r\n"
    for name, status, value in (
        ("gzip, chunked", 501, b"gzip, chunked"),
        ("unknown", 501, b"rot13"),
        ("unknown, chunked", 501, b"rot13, chunked"),
        ("identity", 501, b"identity"),
        ("xchunked", 501, b"xchunked"),
        ("gzip alone", 400, b"gzip"),
        ("chunked not last", 400, b"chunked, gzip"),
        ("chunked twice", 400, b"chunked, chunked"),
        ("empty", 400, b""),
        ("with a comma after it", 400, b"chunked,"),
        ("with a comma before it", 400, b",chunked"),
        ("with a parameter", 400, b"chunked;q=1"),
        ("in quotes", 400, b'"chunked"'),
        ("with a space inside", 400, b"chun ked"),
        ("with obs-text", 400, b"chunked\xa0"),
    ):
        yield bad(f"coding {name}", status, post(te + value, body=end))
    yield bad("coding after a tab", 400, post(b"Transfer-Encoding:\tchunked", body=end))
    yield bad("coding before a tab", 400, post(te + b"chunked\t", body=end))
    yield bad("coding before a space and a tab", 400, post(te + b"chunked \t", body=end))
    yield bad("coding after a tab and a space", 400, post(te + b"\t chunked", body=end))
    yield bad("coding with vertical tab", 400, post(te + b"\x0bchunked", body=end))
    yield bad("coding repeated", 400, post(te + b"chunked", te + b"chunked", body=end))
    yield bad("coding repeated, then gzip", 400, post(te + b"gzip", te + b"chunked", body=end))
    yield bad("coding and length", 400, post(te + b"chunked", b"Content-Length: 5", body=end))
    yield bad("length and coding", 400, post(b"Content-Length: 5", te + b"chunked", body=end))
    yield bad("unknown coding and length", 400, post(te + b"rot13", b"Content-Length: 5"))
    yield bad("coding on HTTP/1.0", 400, request(b"POST / HTTP/1.0", te + b"chunked", body=end))
    yield bad("coding with space before the colon", 400, post(b"Transfer-Encoding : chunked"))
    yield bad("coding folded", 400, post(b"Transfer-Encoding:\r\n chunked", body=end))
    yield ok("coding Chunked", post(te + b"ChUnKeD", body=end), Expected(method="POST"))


def chunks() -> Iterator[Case]:
    abc = Expected(method="POST", body=b"abc")
    for name, body in (
        ("one", b"3\r\nabc\r\n0\r\n\r\n"),
        ("three", b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"),
        ("size with zeros", b"0003\r\nabc\r\n000\r\n\r\n"),
        ("extension", b"3;a\r\nabc\r\n0\r\n\r\n"),
        ("extension with value", b"3;a=b;c=d\r\nabc\r\n0;e=f\r\n\r\n"),
        ("extension with quotes", b'3;a="b c"\r\nabc\r\n0\r\n\r\n'),
        ("extension with escapes", b'3;a="b\\"c\\\\"\r\nabc\r\n0\r\n\r\n'),
        ("trailer", b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
        ("trailers that are not merged", b"3\r\nabc\r\n0\r\nX-A: 1\r\nX-Dubbo-Group: g\r\n\r\n"),
        ("trailer Host", b"3\r\nabc\r\n0\r\nHost: i\r\n\r\n"),
    ):
        yield ok(f"chunks: {name}", chunked(body), abc)
    yield ok(
        "chunks: size in hexadecimal",
        chunked(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
        Expected(method="POST", body=b"0123456789" * 2),
    )
    yield ok("chunks: none", chunked(b"0\r\n\r\n"), Expected(method="POST"))
    yield ok("chunks: body like chunks", chunked(b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n"),
             Expected(method="POST", body=b"0\r\n\r\n\r\n"))  # fmt: skip
    yield ok(
        "chunks: at the limit", chunked(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), abc, body_bytes_max=3
    )
    yield ok(
        "chunks: then a request",
        chunked(b"3\r\nabc\r\n0\r\n\r\n") + request(),
        abc,
        Expected(),
    )
    for count, name in ((1, "last LF"), (2, "last line"), (5, "last chunk"), (8, "data")):
        yield cut(f"chunks: without the {name}", chunked(b"3\r\nabc\r\n0\r\n\r\n"[:-count]))
    for name, status, body in (
        ("size empty", 400, b"\r\nabc\r\n0\r\n\r\n"),
        ("size with a plus", 400, b"+3\r\nabc\r\n0\r\n\r\n"),
        ("size with a minus", 400, b"-3\r\nabc\r\n0\r\n\r\n"),
        ("size with 0x", 400, b"0x3\r\nabc\r\n0\r\n\r\n"),
        ("size with an underscore", 400, b"0_3\r\nabc\r\n0\r\n\r\n"),
        ("size with space before", 400, b" 3\r\nabc\r\n0\r\n\r\n"),
        ("size with space after", 400, b"3 \r\nabc\r\n0\r\n\r\n"),
        ("size with tab after", 400, b"3\t\r\nabc\r\n0\r\n\r\n"),
        ("size with a letter", 400, b"3g\r\nabc\r\n0\r\n\r\n"),
        ("size that overflows 63 bits", 400, b"8000000000000000\r\nabc"),
        ("size that overflows 64 bits", 400, b"10000000000000003\r\nabc"),
        ("size of thirty zeros", 400, b"0" * 30 + b"3\r\nabc"),
        ("size of 2^62", 413, b"4000000000000000\r\nabc"),
        ("size ended by LF", 400, b"3\nabc\r\n0\r\n\r\n"),
        ("size ended by CR", 400, b"3\rabc\r\n0\r\n\r\n"),
        ("data without CR LF", 400, b"3\r\nabc0\r\n\r\n"),
        ("data ended by LF", 400, b"3\r\nabc\n0\r\n\r\n"),
        ("data ended by CR", 400, b"3\r\nabc\r0\r\n\r\n"),
        ("data beyond the size", 400, b"3\r\nabcd\r\n0\r\n\r\n"),
        ("data shorter than the size", 400, b"4\r\nabc\r\n0\r\n\r\n"),
        ("last chunk ended by LF", 400, b"0\n\n"),
        ("last line ended by LF", 400, b"0\r\n\n"),
        ("extension empty", 400, b"3;\r\nabc\r\n0\r\n\r\n"),
        ("extension with space", 400, b"3; a\r\nabc\r\n0\r\n\r\n"),
        ("extension with space before", 400, b"3 ;a\r\nabc\r\n0\r\n\r\n"),
        ("extension without name", 400, b"3;=b\r\nabc\r\n0\r\n\r\n"),
        ("extension without value", 400, b"3;a=\r\nabc\r\n0\r\n\r\n"),
        ("extension with LF", 400, b"3;a\nabc\r\n0\r\n\r\n"),
        ("extension with NUL", 400, b"3;a=\0\r\nabc\r\n0\r\n\r\n"),
        ("extension with LF in quotes", 400, b'3;a="\n"\r\nabc\r\n0\r\n\r\n'),
        ("extension after quotes", 400, b'3;a="b"c\r\nabc\r\n0\r\n\r\n'),
        ("extension with two values", 400, b"3;a=b=c\r\nabc\r\n0\r\n\r\n"),
        ("extension over 1 KiB", 400, b"3;" + b"a" * 1100 + b"\r\nabc\r\n0\r\n\r\n"),
        ("extensions over 1 KiB together", 400, (b"1;" + b"a" * 300 + b"\r\nx\r\n") * 4),
        ("trailer Content-Length", 400, b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n"),
        ("trailer Transfer-Encoding", 400, b"0\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("trailer folded", 400, b"0\r\nX-T: a\r\n b\r\n\r\n"),
        ("trailer without colon", 400, b"0\r\nX-T\r\n\r\n"),
        ("trailer with space before the colon", 400, b"0\r\nX-T : a\r\n\r\n"),
        ("trailer with LF", 400, b"0\r\nX-T: a\n\r\n"),
        ("trailer with NUL", 400, b"0\r\nX-T: \0\r\n\r\n"),
    ):
        yield bad(f"chunks: {name}", status, chunked(body))
    yield bad("chunks: over the limit", 413, chunked(b"2\r\nab\r\n2\r\ncd\r\n"), body_bytes_max=3)
    yield bad(
        "chunks: trailers over the limit",
        431,
        chunked(b"0\r\nX-T: " + b"a" * 100 + b"\r\n\r\n"),
        head_bytes_max=80,
    )
    yield bad("chunks: too many trailers", 431, chunked(b"0\r\nA: 1\r\nB: 2\r\n\r\n"), fields_max=3)
    yield ok(
        "chunks: as many trailers as allowed",
        chunked(b"0\r\nA: 1\r\nB: 2\r\n\r\n"),
        Expected(method="POST"),
        fields_max=4,
    )


def limits() -> Iterator[Case]:
    line = b"GET /234567 HTTP/1.1"
    yield ok("target at the limit", request(line), Expected(target=b"/234567"), target_bytes_max=7)
    yield bad("target over the limit", 414, request(line), target_bytes_max=6)
    size = len(request())
    yield ok("head at the limit", request(), head_bytes_max=size)
    yield bad("head over the limit by one", 431, request(), head_bytes_max=size - 1)
    yield bad("head over the limit by a line", 431, request(), head_bytes_max=20)
    yield bad("request line over the limit", 431, request(), head_bytes_max=16)
    yield bad("method without end", 431, b"G" * 100, head_bytes_max=99)
    yield bad("field name without end", 431, request()[:-2] + b"a" * 100, head_bytes_max=99)
    yield bad(
        "field value without end", 431, request()[:-2] + b"a:" + b"b" * 100, head_bytes_max=99
    )
    yield bad("spaces without end", 431, request()[:-2] + b"a:" + b" " * 100, head_bytes_max=99)
    many = [b"A: b"] * 4
    yield ok("as many fields as allowed", request(b"GET / HTTP/1.1", *many), fields_max=5)
    yield bad("too many fields", 431, request(b"GET / HTTP/1.1", *many), fields_max=4)
    yield bad("one field too many", 431, request(b"GET / HTTP/1.1", b"A: b"), fields_max=1)


def expectations() -> Iterator[Case]:
    for value in (b"100-continue", b"100-Continue"):
        yield ok(
            f"Expect {value.decode()}",
            post(b"Expect: " + value, b"Content-Length: 3", body=b"abc"),
            Expected(method="POST", body=b"abc", values={"expect": value}),
        )
    yield ok("Expect without a body", request(b"GET / HTTP/1.1", b"Expect: 100-continue"))
    for value in (b"", b"200-ok", b"100-continue, x", b"100-continue;a=b", b"100"):
        yield bad(
            f"Expect {value.decode() or 'empty'}",
            417,
            post(b"Expect: " + value, b"Content-Length: 3", body=b"abc"),
        )


def pipelines() -> Iterator[Case]:
    yield ok("three at once", request() * 3, *[Expected()] * 3)
    yield ok(
        "bodies between them",
        post(b"Content-Length: 2", body=b"ab") + chunked(b"1\r\nc\r\n0\r\n\r\n") + request(),
        Expected(method="POST", body=b"ab"),
        Expected(method="POST", body=b"c"),
        Expected(),
    )
    yield cut("one and a half", request() + request()[:9], Expected())
    yield bad("a valid one, then garbage", 400, request() + b"\0\1\2", Expected())
    yield bad("a valid one, then an unknown method", 501, request() + request(b"X / HTTP/1.1"),
              Expected())  # fmt: skip
    yield bad(
        "a body longer than its length",
        400,
        post(b"Content-Length: 1", body=b"a\0b"),
        Expected(method="POST", body=b"a"),
    )
    yield ok(
        "values do not leak into the next",
        request(b"GET / HTTP/1.1", b"X-A: 1") + request(),
        Expected(values={"x-a": b"1"}),
        Expected(values={"x-a": b""}),
    )


CASES: list[Case] = [
    case
    for family in (
        start_lines, hosts, fields, kinds, connections, lengths, codings, chunks, limits,
        expectations, pipelines,
    )
    for case in family()
]  # fmt: skip
