"""Which model is in use: tested against the champion, registered in MLflow."""
