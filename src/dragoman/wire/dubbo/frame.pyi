from enum import IntEnum
from typing import NamedTuple

PAYLOAD_BYTES_MAX: int

class Status(IntEnum):
    """The status of a reply; 30, 31, 35 and 90 are made locally by clients."""

    OK = 20
    SERIALIZATION_ERROR = 25
    CLIENT_TIMEOUT = 30
    SERVER_TIMEOUT = 31
    CHANNEL_INACTIVE = 35
    BAD_REQUEST = 40
    BAD_RESPONSE = 50
    SERVICE_NOT_FOUND = 60
    SERVICE_ERROR = 70
    SERVER_ERROR = 80
    CLIENT_ERROR = 90
    POOL_EXHAUSTED = 100

class Serialization(IntEnum):
    """How a body is written."""

    HESSIAN2 = 2
    JAVA = 3
    FASTJSON = 6
    NATIVE_JAVA = 7
    KRYO = 8
    FST = 9
    AVRO = 11
    PROTOSTUFF = 12
    GSON = 16
    JACKSON = 18
    PROTOBUF_JSON = 21
    PROTOBUF = 22
    FASTJSON2 = 23
    KRYO2 = 25
    MSGPACK = 27
    FURY = 28

class DubboFrame(NamedTuple):
    """One frame, copied out of a decoder; ``status`` means something in replies only."""

    is_request: bool
    two_way: bool
    is_event: bool
    serialization: int
    status: int
    id: int
    body: bytes

class DubboDecoder:
    """Takes what a connection received and hands out frames; bounded by ``payload_bytes_max``."""

    is_request: bool
    two_way: bool
    is_event: bool
    serialization: int
    status: int
    error: str | None

    def __init__(self, *, payload_bytes_max: int = ...) -> None: ...
    @property
    def buffered_bytes(self) -> int:
        """Memory held for an unfinished frame."""

    def receive_data(self, data: bytes) -> None:
        """Take more bytes from the peer."""

    def frames(self) -> list[DubboFrame]:
        """All whole frames there are. ProtocolError, after those before it, for a broken one."""

def encode_frame(
    id: int,
    body: bytes,
    *,
    request: bool = False,
    two_way: bool = False,
    event: bool = False,
    serialization: int = 6,
    status: int = 0,
) -> bytes:
    """One frame's bytes."""

def encode_error_reply(id: int, status: int, text: bytes, *, serialization: int = 6) -> bytes:
    """A reply under a status other than 20. UsageError when ``text`` is not UTF-8."""

def reply_error_text(serialization: int, body: bytes) -> str:
    """The text of a reply under a status other than 20, at most 4 KiB, on one line."""
