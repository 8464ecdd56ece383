"""What DVC and MLflow know of results, for several commands."""
