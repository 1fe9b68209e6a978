"""The demo provider and consumer that the race drives."""
