"""The state of a store in memory, and the table of queues."""
