"""Long-running random tests; ``python -m fuzz.http --seconds 600`` and the like."""
