from typing import Any

def generalized(value: Any) -> Any:
    """A value as generic callers get it: beans as maps with their class under ``class``."""

def throwable_of(error: BaseException, generic: bool = False) -> Any:
    """The Java exception that an exception of Python travels as, a Bean."""
