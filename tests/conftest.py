"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: what an example may take is the test's own timeout.
settings.register_profile("dragoman", deadline=None)
settings.load_profile("dragoman")
