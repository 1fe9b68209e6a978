"""Which endpoint gets the next request: pure policies."""
