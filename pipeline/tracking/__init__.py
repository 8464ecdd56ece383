"""The record in MLflow: one run per trained model."""
