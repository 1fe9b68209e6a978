"""Policies that choose the endpoint of the next request, and the figures they choose by."""
