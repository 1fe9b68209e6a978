"""dragoman: an interpreter between programs that do not share a language."""

__version__: str


def __getattr__(name: str) -> str:
    # Looked up when it is asked for: importlib.metadata would cost every start its import.
    if name != "__version__":
        raise AttributeError(f"module 'dragoman' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dragoman")
    except PackageNotFoundError:  # the sources on a path, not installed
        return "unknown"
