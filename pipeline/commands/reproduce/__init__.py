"""`pipeline reproduce`: make a run again from its id, and compare."""
