"""Codecs, bytes <-> events, sans-I/O: no socket, no asyncio, no clock."""
