"""Opening a store after whatever happened to it, and verifying one."""
