METHODS: dict[bytes, int]
SERIALIZATIONS: dict[str, int]

class Requests:
    """Makes Dubbo requests for one provider; ``serialization`` is one of SERIALIZATIONS."""

    serialization: int
    def __init__(self, serialization: str, *, group: str = "", version: str = "") -> None: ...
