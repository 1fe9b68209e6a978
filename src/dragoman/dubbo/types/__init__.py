"""What a service declares: methods and their Java types, checked and mapped."""
