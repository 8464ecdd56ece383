"""Stage describe: a page that shows the data."""
