"""Other Dubbo clients and servers beside the SDK: what works, as far as it can be run here."""

from __future__ import annotations

from collections.abc import Callable

from interop.results import Result


def run_all(tell: Callable[[str], object]) -> dict[str, Result]:
    """Every peer, by what it does."""
    found: dict[str, Result] = {}
    for name, run in PEERS.items():
        tell(f"interop: {name}")
        try:
            found[name] = run()
        except Exception as error:
            found[name] = Result("fail", f"{type(error).__name__}: {error}"[:300])
    return found


PEERS: dict[str, Callable[[], Result]] = {}
