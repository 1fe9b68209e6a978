from typing import Literal

def encode_heartbeat(id: int, *, serialization: int = 2) -> bytes:
    """A heartbeat that asks for an answer."""

def encode_readonly(id: int, *, serialization: int = 2) -> bytes:
    """The event by which a provider says that it is about to stop."""

def event_name(body: bytes) -> Literal["heartbeat", "readonly", "writable"] | None:
    """The meaning of an event's body, or None for an event that nobody knows."""
