"""Stage evaluate: figures, pictures and a report for the test set."""
