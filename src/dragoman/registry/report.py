"""A registry's statistics as metrics. Both agents add them to their own."""

from __future__ import annotations

from typing import Final

from dragoman.observe.metrics import Snapshot
from dragoman.registry.base import RegistryStatistics

_HELP: Final = {
    "healthy": "Whether the registry answers, and all that should stand in it does.",
    "endpoints": "Endpoints known from the registry.",
    "registered": "Registrations that stand now.",
    "malformed_entries": "Entries of the registry set aside as malformed.",
    "held_entries": "Entries that vanished and are served for a grace period.",
    "lists_total": "Full lists read.",
    "watch_starts_total": "Watches started or resumed.",
    "compactions_total": "Watches that met a compaction.",
    "repairs_total": "Watches replaced because they had missed something.",
    "errors_total": "Failed exchanges with the registry.",
    "leases_lost_total": "Leases that ran out or were revoked.",
    "conflicts_total": "Registrations that another process took over.",
}


def add_registry_metrics(snapshot: Snapshot, statistics: RegistryStatistics) -> None:
    """Add ``dragoman_registry_<name>`` for what ``statistics`` says."""
    for name, text in _HELP.items():
        add = snapshot.counter if name.endswith("_total") else snapshot.gauge
        add(f"dragoman_registry_{name}", float(getattr(statistics, name)), text)
