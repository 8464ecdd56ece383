"""`pipeline sweep`: many trainings on the same features, to find the best params."""
