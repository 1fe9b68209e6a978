"""Time and network that exist only in a seed: the real sessions run on them, and every run can be
repeated.
"""
