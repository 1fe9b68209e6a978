DEPTH_MAX: int
NUMBER_BYTES_MAX: int

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

def without_class(json: bytes) -> bytes:
    """Well-formed ``json`` without the members ``class`` that are strings. UsageError otherwise."""
