DEPTH_MAX: int
NUMBER_BYTES_MAX: int

def encode_string(utf8: bytes) -> bytes:
    """The JSON string of UTF-8 bytes, quotes included. UsageError when they are not UTF-8."""

def decode_string(json: bytes) -> bytes:
    """The UTF-8 bytes that a JSON string (quotes included) stands for.

    UsageError when it is none.
    """

def check_value(json: bytes) -> bytes:
    """The one JSON value in ``json`` without white space around it.

    UsageError when it is not one.
    """

def strict(json: bytes) -> bytes:
    """``json`` with members' names that are numbers or words in quotes.

    So fastjson writes the keys of maps that are not text. UsageError when it is no JSON otherwise.
    """

def names_a_type(json: bytes) -> bool:
    """Whether some object in well-formed ``json`` has a member ``@type``."""
