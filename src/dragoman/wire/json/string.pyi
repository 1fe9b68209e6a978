def encode_string(utf8: bytes) -> bytes:
    """The JSON string of UTF-8 bytes, quotes included. UsageError when they are not UTF-8."""

def decode_string(json: bytes) -> bytes:
    """The UTF-8 bytes that a JSON string with its quotes stands for. UsageError when it is none."""
