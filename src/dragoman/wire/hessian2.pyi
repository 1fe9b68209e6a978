from dragoman.wire.hessian2_json import Hessian2Scanner, to_json
from dragoman.wire.hessian2_reader import (
    CONTAINERS_MAX,
    DEPTH_MAX,
    Hessian2Reader,
    decode,
    decode_stream,
)
from dragoman.wire.hessian2_string import decode_string, encode_string
from dragoman.wire.hessian2_writer import Hessian2Writer, encode

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
