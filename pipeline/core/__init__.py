"""Files, shards, dvc.lock, git and errors, for all other packages."""
