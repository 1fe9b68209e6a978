"""HTTP/1.1 for Python callers: the decoders, their messages and the encoders.

Compiled callers cimport the same names from ``dragoman.wire.http1``. Sans-I/O.
"""

from __future__ import annotations

from typing import Final

from dragoman.wire.http1.encode import encode_request, encode_request_head, encode_response
from dragoman.wire.http1.events import Request, Response
from dragoman.wire.http1.message import HttpError
from dragoman.wire.http1.request import RequestDecoder
from dragoman.wire.http1.response import ResponseDecoder

CT_NONE: Final = 0
CT_FORM: Final = 1
CT_JSON: Final = 2
CT_OTHER: Final = 3
CT_JSON_OTHERWISE: Final = 4

__all__ = [
    "CT_FORM",
    "CT_JSON",
    "CT_JSON_OTHERWISE",
    "CT_NONE",
    "CT_OTHER",
    "HttpError",
    "Request",
    "RequestDecoder",
    "Response",
    "ResponseDecoder",
    "encode_request",
    "encode_request_head",
    "encode_response",
]
