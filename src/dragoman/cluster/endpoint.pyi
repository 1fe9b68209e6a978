STATES: tuple[str, ...]
