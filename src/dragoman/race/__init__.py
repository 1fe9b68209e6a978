"""The benchmark: the whole chain under load, and its report."""

import logging

# Without a handler of their own, warnings would go to standard error, which is the command line's.
logging.getLogger(__name__).addHandler(logging.NullHandler())
