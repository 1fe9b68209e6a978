class Ranked:
    """A member with a rank by the credits it holds."""

    held: int

class Account(Ranked):
    """An account that several members hold together; ``key`` says whose it is."""

    key: object

class Ranks:
    """Rings of members by the magnitude of what they hold."""

class Poorest:
    """Those who wait, the one that holds least first."""
