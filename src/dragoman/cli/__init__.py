"""The command line: the only place that prints or exits."""

import sys

from dragoman import hangup

# Before anything else is imported.
hangup.hold_for(list(sys.argv))
