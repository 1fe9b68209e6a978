def encode_string(utf8: bytes) -> bytes:
    """The hessian2 string of UTF-8 bytes. UsageError when they are not UTF-8."""

def decode_string(data: bytes) -> bytes:
    """The UTF-8 bytes of the hessian2 string that is all of ``data``.

    UsageError when it is none.
    """
