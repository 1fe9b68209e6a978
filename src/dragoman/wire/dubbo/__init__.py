"""Dubbo's frames, and the bodies of requests and replies in each serialization."""
