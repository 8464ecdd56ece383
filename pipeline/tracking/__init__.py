"""Record trained models in MLflow: one run per model."""
