"""Processes started, measured and stopped, for the race, the benchmarks and the tests.

- ``processes``: child processes, whose output is kept, and which end with their parent
- ``etcd``: a real etcd server as such a process
- ``network``: loopback ports, held until the process that they are meant for is started
- ``cpu``: the CPU time of a process and its descendants
- ``machine``: hardware and versions, for every result
- ``interruption``: Ctrl-C and SIGTERM as a flag that every wait looks at

It knows nothing of the race, which is above it.
"""
