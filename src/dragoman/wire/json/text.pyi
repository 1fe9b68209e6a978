DEPTH_MAX: int
NUMBER_BYTES_MAX: int

def check_value(json: bytes) -> bytes:
    """The one JSON value in ``json`` without white space around it.

    UsageError when it is not one.
    """

def names_a_type(json: bytes) -> bool:
    """Whether some object in well-formed ``json`` has a member ``@type``."""

def for_fastjson(json: bytes) -> bytes:
    """Well-formed ``json`` as it is. UsageError for what fastjson would not take as it is: members
    ``@type`` and ``$ref``, by which it makes objects of classes and looks for others' values."""

def without_class(json: bytes) -> bytes:
    """Well-formed ``json`` without the members ``class`` that are strings. UsageError otherwise."""
