"""Stage acquire: bytes from anywhere become raw shards. One module per kind of source."""
