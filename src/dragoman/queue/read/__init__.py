"""The way of a message from the disk: blocks fetched, many at once."""
