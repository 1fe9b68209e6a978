from typing import Any

from dragoman.dubbo.types.declaration import Declaration

class BoundService:
    """An object whose methods are served; ``declaration`` says how."""

    interface: str
    version: str
    group: str
    methods: list[str]
    def __init__(
        self,
        declaration: Declaration,
        instance: Any,
        *,
        threads: bool,
        version: str | None = None,
        group: str | None = None,
    ) -> None: ...
