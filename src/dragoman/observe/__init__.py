"""Counters and histograms cheap enough for the hot path, and what exports them."""
