"""The stages of dvc.yaml, a package each. No stage imports another."""
