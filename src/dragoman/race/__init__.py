"""The benchmark: the whole chain under load, and its report."""
