class Ranked:
    """What has a rank by the credits it holds."""

    held: int

class Ranks:
    """Rings of members by the magnitude of what they hold."""

class Poorest:
    """Those who wait, the one that holds least first."""
