"""JSON as text: checked, read through, printed; values are built nowhere here (RFC 8259)."""
