"""The contract of every op: its schema, its shape function and its derivative."""
