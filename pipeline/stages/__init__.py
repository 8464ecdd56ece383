"""The stages of dvc.yaml, a package each. None imports another."""
