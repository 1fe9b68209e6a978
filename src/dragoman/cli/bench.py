"""``dragoman bench``: a command a benchmark, each in a module of its own."""

from __future__ import annotations

from importlib import import_module

import typer

from dragoman.cli.words import Commands

bench = typer.Typer(cls=Commands, help="Measure the parts that stand alone.", no_args_is_help=True)

# Each name is a module of this package; it adds its command to ``bench``.
BENCHMARKS = ("bench_queue", "bench_rpc")


def register(app: typer.Typer) -> None:
    """Add the commands of this family to ``app``."""
    for name in BENCHMARKS:
        import_module(f"dragoman.cli.{name}").register(bench)
    app.add_typer(bench, name="bench")
