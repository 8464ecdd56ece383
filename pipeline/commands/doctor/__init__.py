"""`pipeline doctor`: what is wrong with the environment, servers and files, and how to fix it."""
