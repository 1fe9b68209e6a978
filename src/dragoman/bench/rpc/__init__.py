"""``dragoman bench rpc``: the RPC library beside a prototype, the bare sockets and its peers.

Every contestant is measured by two processes of its own, a server and a client, which a third, the
conductor (``run``), tells what to do; it is idle while they work.
"""
