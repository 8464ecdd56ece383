"""`pipeline reproduce`: make a run again and compare."""
