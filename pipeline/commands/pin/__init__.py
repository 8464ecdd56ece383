"""`pipeline pin`: save which photographs a search returned."""
