UsualCall = tuple[
    bytes | None,
    bytes | None,
    bytes | None,
    bytes | None,
    bytes | None,
    list[bytes],
    bool,
    bool,
    bool,
]

def usual_call(body: bytes) -> UsualCall | None:
    """The usual call that ``body`` is, or None (for tests): the JSON of types, attachments and
    fields, group, version, arguments, and whether ``oneway``, ``envelope`` and ``class`` are asked
    for."""
