"""Stage acquire: bytes from anywhere become raw shards."""
