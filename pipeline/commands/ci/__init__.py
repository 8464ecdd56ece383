"""`pipeline ci`: pull, run, push, and write a summary."""
