"""`pipeline ci`: pull, run, push and tell, the same on any machine."""
