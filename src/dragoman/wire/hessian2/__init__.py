"""hessian2 for Python callers: values to bytes, bytes to values, bytes to JSON.

Compiled callers cimport ``Hessian2Reader``, ``Hessian2Writer`` and ``Hessian2Scanner`` from
``dragoman.wire.hessian2``. Sans-I/O. What Java's values are in Python: ``dragoman.wire.java``. One
stream is one table of references, classes and types, shared by all its values: the body of a Dubbo
request or reply is one stream.
"""

from dragoman.wire.hessian2.reader import (
    CONTAINERS_MAX,
    DEPTH_MAX,
    Hessian2Reader,
    decode,
    decode_stream,
)
from dragoman.wire.hessian2.scanner import Hessian2Scanner, to_json
from dragoman.wire.hessian2.string import decode_string, encode_string
from dragoman.wire.hessian2.writer import Hessian2Writer, encode

__all__ = [
    "CONTAINERS_MAX",
    "DEPTH_MAX",
    "Hessian2Reader",
    "Hessian2Scanner",
    "Hessian2Writer",
    "decode",
    "decode_stream",
    "decode_string",
    "encode",
    "encode_string",
    "to_json",
]
