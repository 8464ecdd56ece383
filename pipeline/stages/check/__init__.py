"""Stage check: what can be known to be wrong before anything is computed."""
