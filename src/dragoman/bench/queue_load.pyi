def messages(seed: int, count: int, slot: int, size: int) -> list[bytes]: ...
def wrong(
    slots: list[list[bytes]],
    part: int,
    step: int,
    queue: int,
    offset: int,
    count: int,
    got: list[bytes],
) -> int: ...
def keyed(queue: int, offset: int, made: list[bytes]) -> list[tuple[bytes, bytes]]: ...
