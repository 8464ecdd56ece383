"""Stage split: which images train, validate and test."""
