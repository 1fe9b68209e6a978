"""What stands in files: segments, META, and windows read of a file."""
