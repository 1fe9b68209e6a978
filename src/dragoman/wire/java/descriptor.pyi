from collections.abc import Sequence

def count_parameters(descriptor: bytes) -> int:
    """How many parameters a descriptor has. UsageError when it is malformed."""

def descriptor_of(types: Sequence[str]) -> str:
    """The descriptor of a list of Java type names. UsageError names the type that is none."""

def java_name(descriptor: str) -> str:
    """The name in Java's source of the one type in ``descriptor``. UsageError otherwise."""

def split_descriptor(descriptor: str) -> list[str]:
    """The parameters of a well-formed descriptor, one by one."""
