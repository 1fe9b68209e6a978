"""What all tests share."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine is no failure: what an example may take is the test's own timeout.
settings.register_profile("dragoman", deadline=None)
settings.load_profile("dragoman")

# A process that was started in the background ignores it, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
