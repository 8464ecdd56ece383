"""`pipeline doctor`: find what a crash or a disk has damaged, and move it out of the way."""
