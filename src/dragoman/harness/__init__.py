"""Processes started, measured and stopped, for the race, the benchmarks and the tests."""
