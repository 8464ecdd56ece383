"""What DVC holds and what MLflow holds, side by side, and each from the other."""
