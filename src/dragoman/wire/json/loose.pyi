CONTAINERS_MAX: int
BYTES_MAX: int

def strict(json: bytes, *, bytes_max: int = ...) -> bytes:
    """The JSON that fastjson's text stands for: members' names in quotes, references followed.

    UsageError when it is no JSON otherwise, LimitError for references that cannot be followed or
    make it longer than ``bytes_max``.
    """
