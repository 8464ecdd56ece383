"""MLflow: one run per trained model. The only importers of mlflow are here and in sweep."""
