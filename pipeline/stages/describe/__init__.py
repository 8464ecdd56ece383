"""Stage describe: a page about the data."""
