"""Files, shards, dvc.lock, git and errors: what every other package stands on."""
