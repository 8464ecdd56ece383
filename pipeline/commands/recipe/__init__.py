"""`pipeline recipe`: known experiments as options of `dvc exp run`."""
