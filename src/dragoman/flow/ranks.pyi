class Ranked:
    """What has a rank by the credits it holds."""

    held: int

class Account(Ranked):
    """What several members hold together; ``key`` says whose it is."""

    key: object

class Ranks:
    """Rings of members by the magnitude of what they hold."""

class Poorest:
    """Those who wait, the one that holds least first."""
