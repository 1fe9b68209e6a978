"""``python -m benchmarks.agents``: the agents beside HAProxy and Envoy, and how cost grows."""
