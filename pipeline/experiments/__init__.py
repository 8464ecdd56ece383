"""Results in DVC and runs in MLflow, as used by several commands."""
