class Budget:
    """Bytes that a process, or a server in it, holds for its peers."""

    bytes_max: int
    used: int
    most: int
    refused: int
    def __init__(self, bytes_max: int = 0) -> None: ...
    def limit(self, bytes_max: int) -> None:
        """From now on admit what fits ``bytes_max``; 0: everything."""

    def hold(self, n: int) -> bool:
        """Take ``n`` bytes if they may be held; whether they are. For callers in Python."""

    def let_go(self, n: int) -> None:
        """Give back what ``hold`` took."""

def process_budget() -> Budget:
    """The budget of this process, for all but what servers with budgets of their own hold."""
