"""`pipeline suspects`: labels that may be wrong."""
