"""`pipeline doctor`: what is wrong with the environment, servers and files, and what heals it."""
