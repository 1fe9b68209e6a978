"""Groups and versions that a caller asks for, as Java's consumers mean them.

``*`` is any group or version, ``a,b`` either of the two, anything else itself. Used by
``cluster.directory`` for HTTP callers and by ``dubbo.client.hub``. A provider's own group and
version are always plain text: what calls name to it is what it registered, not what was asked for.
"""

from __future__ import annotations

from typing import Final

ANY: Final = "*"


def is_choice(group: str, version: str) -> bool:
    """Whether this may mean several services of an interface."""
    return ANY in (group, version) or "," in group or "," in version


def chosen(asked: str, said: str) -> bool:
    """Whether a provider that says this group (or version) is among those asked for."""
    if asked in (ANY, said):
        return True
    return "," in asked and said != "" and said in (each.strip() for each in asked.split(","))
