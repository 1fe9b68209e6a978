"""hessian2 for Python callers: values to bytes, bytes to values, bytes to JSON.

Compiled callers cimport ``Hessian2Reader``, ``Hessian2Writer`` and ``Hessian2Scanner`` from
``dragoman.wire.hessian2``. Sans-I/O. What Java's values are in Python: ``dragoman.wire.java``. One
stream is one table of references, classes and types, shared by all its values: the body of a Dubbo
request or reply is one stream.
"""

from dragoman.wire import hessian2_json, hessian2_reader, hessian2_writer
from dragoman.wire.hessian2_json import to_json
from dragoman.wire.hessian2_reader import CONTAINERS_MAX, DEPTH_MAX, decode, decode_stream
from dragoman.wire.hessian2_string import decode_string, encode_string
from dragoman.wire.hessian2_writer import encode

# hessian2.pxd gives compiled callers these names; an import of them here would be theirs too and
# leave nothing for Python.
globals().update(
    Hessian2Reader=hessian2_reader.Hessian2Reader,
    Hessian2Scanner=hessian2_json.Hessian2Scanner,
    Hessian2Writer=hessian2_writer.Hessian2Writer,
)

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
