"""`pipeline layers`: where a network can be cut."""
