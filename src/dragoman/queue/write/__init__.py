"""The way of a put to the disk: blocks in the log, frames in the journal."""
