"""Stage acquire: fetch the images of a data set and write them to raw shards."""
