"""`pipeline serve`: a model behind HTTP."""
