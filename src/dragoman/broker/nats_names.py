"""What a ``nats://`` URL says, and the subjects that queues and groups have.

A queue's name is any bytes up to 64 KiB, a subject printable characters and short: letters, digits,
``-`` and ``_`` stand for themselves, other bytes are ``=`` and two hexadecimal digits, and what is
longer than 200 characters so is ``~`` and its SHA-256 (the name itself is then stored beside). The
invariant: different names have different tokens, and a token has none of the characters that mean
something in a subject.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from dragoman.errors import UsageError

TOKEN_MAX = 200
PORT = 4222
REPLICAS_MAX = 5
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_HEX = [f"{byte:02X}" for byte in range(256)]
_ENCODED = [chr(b) if b in _PLAIN else f"={_HEX[b]}" for b in range(256)]
EXPECTED = "expected nats://host:port[,host:port...]/prefix[?replicas=1 to 5&storage=file|memory]"


def token_of(name: bytes) -> str:
    """The token that stands for ``name`` in a subject."""
    if len(name) <= TOKEN_MAX:
        token = "".join([_ENCODED[byte] for byte in name])
        if len(token) <= TOKEN_MAX:
            return token
    return "~" + hashlib.sha256(name).hexdigest()


def is_hashed(token: str) -> bool:
    """Whether the token does not have the name in it."""
    return token.startswith("~")


def name_of(token: str) -> bytes:
    """The name that a token stands for that is not hashed."""
    first, *rest = token.split("=")
    return first.encode() + b"".join(
        bytes.fromhex(piece[:2]) + piece[2:].encode() for piece in rest
    )


def meta_of(prefix: str) -> str:
    """The stream beside that of the queues, for what is known of them beside their messages."""
    return f"{prefix}-meta"


@dataclass(frozen=True)
class Location:
    """What a URL says. ``servers`` are URLs of single servers; None: not said."""

    servers: list[str]
    prefix: str
    replicas: int | None = None
    storage: str | None = None
    user: str | None = None
    password: str | None = None


def parse(url: str) -> Location:
    """Read a URL; raises UsageError, which repeats no password."""
    rest = url.removeprefix("nats://")
    rest, _, query = rest.partition("?")
    authority, _, prefix = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    prefix = prefix.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"the prefix of a nats:// URL has 1 to 64 letters, digits, - and _, not {prefix!r:.80}:"
            f" {EXPECTED}"
        )
    servers = []
    for host in hosts.split(","):
        name, colon, port = host.rpartition(":")
        if not colon or host.endswith("]"):
            name, port = host, str(PORT)
        if not name or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(f"{host!r:.80} is no server: {EXPECTED}")
        servers.append(f"nats://{name}:{port}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := options.keys() - {"replicas", "storage"}:
        raise UsageError(f"{sorted(unknown)[0]!r} is no setting of a nats:// URL: {EXPECTED}")
    replicas = options.get("replicas")
    if replicas is not None and not (replicas.isdigit() and 1 <= int(replicas) <= REPLICAS_MAX):
        raise UsageError(f"replicas={replicas}: {EXPECTED}")
    storage = options.get("storage")
    if storage not in (None, "file", "memory"):
        raise UsageError(f"storage={storage}: {EXPECTED}")
    return Location(
        servers,
        prefix,
        int(replicas) if replicas is not None else None,
        storage,
        unquote(user) if at else None,
        unquote(password) if at else None,
    )
