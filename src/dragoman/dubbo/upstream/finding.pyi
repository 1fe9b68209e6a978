from dragoman.dubbo.upstream.connection import Greeter
from dragoman.dubbo.upstream.egress import Egress

class Finding(Greeter):
    """Finds out which serialization the provider behind ``egress`` answers in, as its link's
    ``greeter``."""

    found: str | None
    told: str | None
    def __init__(self, egress: Egress, interface: str) -> None: ...
    def ask_now(self) -> None:
        """Find it out on the connections that there are, which go on being used."""

    def follow(self, egress: Egress) -> None:
        """From now on ``egress``, which is before the same provider, speaks what is found too."""

    def forget(self, egress: Egress) -> None:
        """It is needed no more."""

    def expect(self, serialization: str) -> None:
        """It is said to answer in this one: that is asked first."""
