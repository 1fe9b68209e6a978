"""Files, directories and checksums: all that touches the disk."""
