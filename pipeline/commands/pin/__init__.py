"""`pipeline pin`: fix which photographs a search gave."""
